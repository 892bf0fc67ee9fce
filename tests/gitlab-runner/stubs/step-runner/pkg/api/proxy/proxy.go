// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
)

func Proxy(io.Reader, io.Writer, io.ReadWriter) error { return errors.New("not in this build") }
