// SPDX-License-Identifier: Apache-2.0

// Package api stands in for the gRPC API of `gitlab-runner wrapper`.
package api

import (
	"context"
	"errors"
)

type Status int

const (
	StatusUnknown Status = iota
	StatusRunning
	StatusInShutdown
	StatusStopped
)

var ErrProcessNotInitialized = errors.New("process not initialized")

type ShutdownCallbackDef interface {
	URL() string
	Method() string
	Headers() map[string]string
}

type InitGracefulShutdownRequest interface{ ShutdownCallbackDef() ShutdownCallbackDef }

type ShutdownCallback interface{ Run(context.Context) }

type none struct{}

func (none) Run(context.Context) {}

func NewShutdownCallback(log any, def ShutdownCallbackDef) ShutdownCallback { return none{} }

func (s Status) String() string {
	return [...]string{"unknown", "running", "in_shutdown", "stopped"}[s]
}
