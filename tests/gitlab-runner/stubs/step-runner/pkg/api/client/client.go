// SPDX-License-Identifier: Apache-2.0

package client

import "time"

type Variable struct {
	Key, Value   string
	File, Masked bool
}

type RunRequest struct {
	Id, WorkDir, BuildDir, Steps string
	Env                          map[string]string
	Variables                    []Variable
	Timeout                      *time.Duration
}

type State int

const (
	StateUnknown State = iota
	StateSuccess
	StateFailure
	StateCancelled
)

func (s State) String() string { return [...]string{"unknown", "success", "failure", "cancelled"}[s] }

type ErrorKind int

const (
	ErrorUnknown ErrorKind = iota
	ErrorInternal
	ErrorStepFailure
	ErrorCancelled
	ErrorTimeout
)

type Status struct {
	State     State
	Message   string
	ErrorKind ErrorKind
}
