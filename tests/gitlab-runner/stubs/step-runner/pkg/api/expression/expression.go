// SPDX-License-Identifier: Apache-2.0

package expression

import (
	"gitlab.com/gitlab-org/moa/ast"
	"gitlab.com/gitlab-org/moa/value"
)

const Sensitive uint16 = 1

type Input struct {
	Key   string
	Value value.Value
}

type Evaluator struct{}

func NewEvaluator(value.Value) (*Evaluator, error) { return &Evaluator{}, nil }

// Eval returns the text as it is.
func (*Evaluator) Eval(text string, _ ast.Expr) (value.Value, error) { return value.String(text), nil }
