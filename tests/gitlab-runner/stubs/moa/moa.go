// SPDX-License-Identifier: Apache-2.0

// Package moa is a no-op stand-in: templates are plain text, nothing is interpolated.
package moa

import "gitlab.com/gitlab-org/moa/ast"

type text struct{}

func (t text) Walk(v ast.Visitor) (ast.Expr, error) {
	if _, err := v.Enter(t); err != nil {
		return t, err
	}
	return v.Exit(t)
}

// ParseTemplate accepts every text as a literal.
func ParseTemplate(string) (ast.Expr, error) { return text{}, nil }

// EscapeTemplate is the identity.
func EscapeTemplate(s string) string { return s }
