// SPDX-License-Identifier: Apache-2.0

package fields

const (
	HTTPStatusCode = "http_status_code"
	DurationS      = "duration_s"
)

type Deprecation struct{ Standard string }

var (
	Deprecated     = map[string]Deprecation{}
	VariantVersion = map[string]int{}
)
