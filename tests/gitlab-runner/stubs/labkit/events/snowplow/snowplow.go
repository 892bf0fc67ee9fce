// SPDX-License-Identifier: Apache-2.0

package snowplow

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"gitlab.com/gitlab-org/labkit/v2/events/snowplow/metrics"
	"gitlab.com/gitlab-org/labkit/v2/events/snowplow/oidc"
)

var (
	errNo             = errors.New("not in this build")
	ErrEmitterStopped = errors.New("emitter stopped")
)

type SendResult struct {
	EventCount, StatusCode int
	Err                    error
}

type (
	SendCallback  func(successes, failures []SendResult)
	EmitterOption func()
	Emitter       struct{}
	Tracker       struct{}
)

func WithCallback(SendCallback) EmitterOption                              { return func() {} }
func WithTokenSource(*oidc.Source) EmitterOption                           { return func() {} }
func WithMetricsCollectorOptions(...metrics.CollectorOption) EmitterOption { return func() {} }

func NewEmitter(string, ...EmitterOption) (*Emitter, error) { return nil, errNo }
func (*Emitter) Collector() prometheus.Collector            { return nil }
func NewTracker(string, *Emitter) (*Tracker, error)         { return nil, errNo }
func (*Tracker) Stop()                                      {}

type BillingEventRequiredInput struct {
	Category, EventType, Realm, UnitOfMeasure string
	Quantity                                  float64
}

type BillingEventOptionalInput struct {
	Subject, DeploymentType, InstanceID, UniqueInstanceID   string
	ProjectID, NamespaceID, RootNamespaceID, OrganizationID int64
	Metadata                                                map[string]any
}

func (*Tracker) TrackBillingEventWithOptionalInput(BillingEventRequiredInput, BillingEventOptionalInput) error {
	return errNo
}
