// SPDX-License-Identifier: Apache-2.0

package extended

import (
	"context"
	"errors"
	"io"

	"gitlab.com/gitlab-org/step-runner/pkg/api/client"
	"google.golang.org/grpc"
)

var errNo = errors.New("not in this build")

type Dialer interface {
	Dial() (*grpc.ClientConn, error)
}

type FollowOutput struct{ Logs io.Writer }

type Client struct{}

func New(Dialer) (*Client, error)                    { return nil, errNo }
func (*Client) CloseConn() error                     { return nil }
func (*Client) Cancel(context.Context, string) error { return errNo }
func (*Client) RunAndFollow(context.Context, *client.RunRequest, *FollowOutput) (client.Status, error) {
	return client.Status{}, errNo
}
