// SPDX-License-Identifier: Apache-2.0

package ast

type Expr interface {
	Walk(Visitor) (Expr, error)
}

type Visitor interface {
	Enter(Expr) (Visitor, error)
	Exit(Expr) (Expr, error)
}

// Template would be an expression with interpolations; this build makes none.
type Template struct{}

func (t *Template) Walk(v Visitor) (Expr, error) {
	if _, err := v.Enter(t); err != nil {
		return t, err
	}
	return v.Exit(t)
}
