// SPDX-License-Identifier: Apache-2.0

package schema

type StepInputs map[string]any

type Step struct {
	Name   *string           `json:"name,omitempty" yaml:"name,omitempty"`
	Step   any               `json:"step,omitempty" yaml:"step,omitempty"`
	Func   any               `json:"func,omitempty" yaml:"func,omitempty"`
	Script *string           `json:"script,omitempty" yaml:"script,omitempty"`
	Env    map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
	Inputs StepInputs        `json:"inputs,omitempty" yaml:"inputs,omitempty"`
	Run    []Step            `json:"run,omitempty" yaml:"run,omitempty"`
}
