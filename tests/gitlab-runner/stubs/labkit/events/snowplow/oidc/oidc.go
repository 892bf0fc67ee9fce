// SPDX-License-Identifier: Apache-2.0

package oidc

type Option func()

type Source struct{}

func WithSkipIfUnsupportedCloud(bool) Option { return func() {} }
func NewSource(...Option) *Source            { return &Source{} }
