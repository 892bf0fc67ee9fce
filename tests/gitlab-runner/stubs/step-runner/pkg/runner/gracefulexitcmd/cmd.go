// SPDX-License-Identifier: Apache-2.0

package gracefulexitcmd

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

type Cmd struct{ *exec.Cmd }

// New makes a command that gets SIGTERM on cancel and SIGKILL after delay.
func New(ctx context.Context, delay time.Duration, name string, args ...string) *Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = delay
	return &Cmd{c}
}
