// SPDX-License-Identifier: Apache-2.0

package addmask

import (
	"errors"
	"io"
)

type AddMask struct{}

func New(any, ...io.Writer) (*AddMask, error) { return nil, errors.New("not in this build") }
func (*AddMask) Get(int) io.Writer            { return io.Discard }
func (*AddMask) Close() error                 { return nil }
