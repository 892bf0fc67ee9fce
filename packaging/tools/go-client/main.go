// SPDX-License-Identifier: Apache-2.0

// go-client goes one image's and one container's way by Docker's SDK for Go, in a job: go-client BASE TARGET pulls BASE,
// builds TARGET from it, pushes it, pulls it by its digest, and runs it. Each step prints a line; the first that is not as it should
// be ends the program with 1.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/docker/errdefs"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/docker/docker/pkg/stdcopy"
)

func need(ok bool, format string, values ...any) {
	if !ok {
		fmt.Printf("WRONG "+format+"\n", values...)
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	need(err == nil, "%v", err)
	return value
}

// messages reads a stream to its end; its last aux is what the call is about.
func messages(stream io.ReadCloser) (aux map[string]any, failure error) {
	defer stream.Close()
	decoder := json.NewDecoder(stream)
	for {
		var message jsonmessage.JSONMessage
		if err := decoder.Decode(&message); errors.Is(err, io.EOF) {
			return aux, nil
		} else if err != nil {
			return aux, err
		}
		if message.Error != nil {
			return aux, message.Error
		}
		if message.Aux != nil {
			aux = map[string]any{}
			need(json.Unmarshal(*message.Aux, &aux) == nil, "aux %s", *message.Aux)
		}
	}
}

func contextOf(dockerfile string) io.Reader {
	var folder bytes.Buffer
	writer := tar.NewWriter(&folder)
	need(writer.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))}) == nil, "tar")
	must(writer.Write([]byte(dockerfile)))
	need(writer.Close() == nil, "tar")
	return &folder
}

func main() {
	base, target := os.Args[1], os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	docker := must(client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()))
	docker.NegotiateAPIVersion(ctx)
	need(must(docker.Ping(ctx)).APIVersion == docker.ClientVersion(), "no version was agreed on")
	fmt.Println("ping", docker.ClientVersion())

	_, err := messages(must(docker.ImagePull(ctx, base, image.PullOptions{})))
	need(err == nil, "pull: %v", err)
	fmt.Println("pull")

	aux, err := messages(must(docker.ImageBuild(ctx, contextOf("FROM "+base+"\nLABEL by=go\nRUN echo built >/made\n"),
		build.ImageBuildOptions{Tags: []string{target}, Remove: true})).Body)
	need(err == nil, "build: %v", err)
	inspected := must(docker.ImageInspect(ctx, target))
	need(aux["ID"] == inspected.ID && inspected.Config.Labels["by"] == "go" &&
		slices.Contains(inspected.RepoTags, target), "built %v, inspected %+v", aux, inspected)
	listed := must(docker.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", target))}))
	need(len(listed) == 1 && listed[0].ID == inspected.ID, "listed %+v", listed)
	fmt.Println("build", inspected.ID)

	answer := must(docker.ImageBuild(ctx, contextOf("FROM "+base+"\nRUN exit 3\n"), build.ImageBuildOptions{}))
	_, err = messages(answer.Body)
	need(err != nil, "a build that fails says nothing")
	fmt.Println("failed-build", err)

	login := base64.URLEncoding.EncodeToString([]byte("{}"))
	aux, err = messages(must(docker.ImagePush(ctx, target, image.PushOptions{RegistryAuth: login})))
	need(err == nil, "push: %v", err)
	digest, _ := aux["Digest"].(string)
	need(strings.HasPrefix(digest, "sha256:"), "pushed %v", aux)
	repository := target[:strings.LastIndex(target, ":")]
	_, err = messages(must(docker.ImagePull(ctx, repository+"@"+digest, image.PullOptions{})))
	need(err == nil, "pull by digest: %v", err)
	fmt.Println("push", digest)

	begun := time.Now().Add(-time.Minute)
	made := must(docker.ContainerCreate(ctx, &container.Config{Image: target, Labels: map[string]string{"of": "go"},
		Cmd: []string{"sh", "-c", "cat /made; echo err >&2; read word; echo got $word; exit 7"}, OpenStdin: true, StdinOnce: true,
		AttachStdin: true, AttachStdout: true, AttachStderr: true}, &container.HostConfig{}, nil, nil, "by-go"))
	// Each asks for a stream before there is anything in it.
	happened, broken := docker.Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("container", made.ID)),
		Since: fmt.Sprint(begun.Unix())})
	exited, waiting := docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	stream := must(docker.ContainerAttach(ctx, made.ID,
		container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	need(docker.ContainerStart(ctx, made.ID, container.StartOptions{}) == nil, "start")
	must(stream.Conn.Write([]byte("typed\n")))
	need(stream.CloseWrite() == nil, "close of stdin")
	var stdout, stderr bytes.Buffer
	must(stdcopy.StdCopy(&stdout, &stderr, stream.Reader))
	stream.Close()
	need(strings.Contains(stdout.String(), "built") && strings.Contains(stdout.String(), "got typed") &&
		stderr.String() == "err\n", "attached: %q and %q", stdout.String(), stderr.String())
	fmt.Println("attach")
	select {
	case end := <-exited:
		need(end.StatusCode == 7 && end.Error == nil, "wait: %+v", end)
	case err := <-waiting:
		need(false, "wait: %v", err)
	}
	fmt.Println("wait")
	seen := []string{}
	for !slices.Contains(seen, "die") {
		select {
		case one := <-happened:
			need(one.Actor.ID == made.ID && one.TimeNano > 0, "event %+v", one)
			seen = append(seen, string(one.Action))
		case err := <-broken:
			need(false, "events: %v after %v", err, seen)
		}
	}
	need(slices.Contains(seen, "create") && slices.Contains(seen, "start"), "events: %v", seen)
	fmt.Println("events", seen)

	logs := must(docker.ContainerLogs(ctx, made.ID, container.LogsOptions{ShowStdout: true, Timestamps: true, Tail: "1"}))
	stdout.Reset()
	must(stdcopy.StdCopy(&stdout, io.Discard, logs))
	stamp, text, _ := strings.Cut(strings.TrimSpace(stdout.String()), " ")
	when, err := time.Parse(time.RFC3339Nano, stamp)
	need(err == nil && when.After(begun) && text == "got typed", "logs: %q: %v", stdout.String(), err)
	fmt.Println("logs")

	state := must(docker.ContainerInspect(ctx, "by-go"))
	need(state.State.ExitCode == 7 && state.Config.Image == target && state.Image == inspected.ID, "inspect: %+v %+v",
		state.State, state.ContainerJSONBase)
	all := must(docker.ContainerList(ctx, container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("label", "of=go"), filters.Arg("status", "exited"))}))
	need(len(all) == 1 && all[0].ID == made.ID, "list: %+v", all)
	need(docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{}) == nil, "remove")
	_, err = docker.ContainerInspect(ctx, "by-go")
	need(errdefs.IsNotFound(err), "inspect after remove: %v", err)
	_, err = docker.ImageInspect(ctx, "no-such-image:1")
	need(errdefs.IsNotFound(err), "inspect of no image: %v", err)
	_, err = docker.ContainerCreate(ctx, &container.Config{Image: target},
		&container.HostConfig{Binds: []string{"/:/host"}}, nil, nil, "")
	need(errdefs.IsForbidden(err), "bind of /: %v", err)
	fmt.Println("inspect")
	fmt.Println("all of it")
}
