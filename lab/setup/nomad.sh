#!/bin/bash
# nomad.sh OUT: build Nomad from its Go module (without its web UI).
set -euo pipefail
version=v1.11.3
# Nomad's module takes its own api module by a path that the published module
# does not hold: this is the one that was made from the same commit.
api=v0.0.0-20260907080526-08ef8f3d26da

work=$(mktemp -d "$LAB_CACHE/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
source=$(go mod download -json "github.com/hashicorp/nomad@$version" | jq -r .Dir)
cp -r "$source" nomad
chmod -R u+w nomad
cd nomad
go mod edit -replace "github.com/hashicorp/nomad/api=github.com/hashicorp/nomad/api@$api"
GOFLAGS=-mod=mod CGO_ENABLED=0 go build -tags hashicorpmetrics -trimpath \
	-ldflags "-s -w -X github.com/hashicorp/nomad/version.VersionPrerelease=" -o "$1" .
"$1" version
