# make dev    build the plugin for this machine: build/nomad-driver-virt
# make demo   run the README's job on a lab, and show what comes of it
# make test   lint, unit tests, tests on libvirt and the kernel, end to end
# make bench  the driver's own time, as ratios to the bare tools
# make help   all there is

SHELL      := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VERSION ?= 0.1.0-dev
COMMIT  := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
DATE    := $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# Tools that are built once. Root's are in the lab's cache.
ifeq ($(shell id -u),0)
export VIRT_LAB_CACHE ?= /var/cache/nomad-driver-virt
else
export VIRT_LAB_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nomad-driver-virt
endif
LINT_VERSION := v2.15.0
LINT         := $(VIRT_LAB_CACHE)/golangci-lint-$(LINT_VERSION)/golangci-lint
NFPM_VERSION := v2.45.0
NFPM         := $(VIRT_LAB_CACHE)/nfpm-$(NFPM_VERSION)/nfpm

# The labs of the tests are not the demo's, so that all can be up. What runs on both
# libvirts, in two labs beside each other, runs on one with LIBVIRT=9 or LIBVIRT=11.
export TEST_LAB := test
IN_LAB := LAB_NAME=$(TEST_LAB) lab/lab run

# The packages that are tested in a lab: with libvirt 11, those in which another
# libvirt, QEMU or firewall makes a difference. hypervisor is the first in one lab and
# the last in the other: its domains have the same names, and there is one cgroup tree.
LAB_TESTS_9  := ./portmap ./bridge ./dhcp ./image ./share ./rbd ./storage ./systemd ./driver ./hypervisor
LAB_TESTS_11 := ./hypervisor ./portmap ./bridge ./dhcp ./share

.PHONY: help go dev build package demo demo-down test setup lint docs unit package-test fresh lab-test lab-test-here e2e bench clean
.DEFAULT_GOAL := dev

help: ## say what the targets are
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# From 1.21 on, Go fetches the one that go.mod names. Those before say that they do
# not understand go.mod.
go:
	@found=$$(GOTOOLCHAIN=local go version 2>/dev/null | sed 's/^go version //') || found="no Go on the path"; \
	minor=$$(sed -n 's/.*go1\.\([0-9]*\).*/\1/p' <<<"$$found"); \
	if [ "$${minor:-0}" -lt 21 ]; then \
		echo "make: this takes $$(sed -n 's/^go /Go /p' go.mod), or any from 1.21 on, which fetches that, and there is $$found;" \
			"install one from https://go.dev/doc/install" >&2; \
		exit 1; \
	fi

dev: go ## build the plugin for this machine
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o build/nomad-driver-virt .

build: go ## build the plugin for all architectures: build/linux-*/
	for arch in amd64 arm64; do \
		echo "building for linux/$$arch"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' \
			-o build/linux-$$arch/nomad-driver-virt .; \
	done

package: build $(NFPM) ## build .deb, .rpm, release archives and checksums: build/packages/
	packaging/build.sh $(NFPM) build $(VERSION)

$(NFPM): | go
	@echo "building nfpm $(NFPM_VERSION), about 20 s"
	@mkdir -p $(@D)
	@GOBIN=$(@D) go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)

setup: go ## install what the lab needs: packages, Nomad, guest images (cached)
	lab/lab setup

demo: setup ## run the README's job; KEEP=1 leaves it running, IMAGE=path-or-url takes another image
	@echo "building the plugin, about 3 min the first time"
	@go build -v ./... 2>&1 | awk 'NR % 100 == 0 { print "  ... " $$0 }'
	@$(MAKE) --no-print-directory dev
	@lab/demo

demo-down: ## end a demo that was left running
	@LAB_NAME=demo lab/lab down

test: setup lint unit package-test lab-test e2e ## all tests

lint: go $(LINT) ## check the code
	$(LINT) run ./...
	shellcheck lab/lab lab/demo lab/fresh lab/pair e2e/run lab/volumes/loop-device .ci/run $$(git ls-files 'lab/*.sh' 'packaging/*.sh')
	# Parts of scripts: what they refer to is written by the code around them.
	shellcheck --shell=sh --severity=warning --exclude=SC1090,SC2154 cloudinit/guest/*.sh

# -v shows that it is at work: it takes minutes.
$(LINT): | go
	@echo "building golangci-lint $(LINT_VERSION), about 3 min"
	@mkdir -p $(@D)
	@GOBIN=$(@D) go install -v github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) 2>&1 | \
		awk 'NR % 100 == 0 { print "  ... " $$0 }'
	@test -x $@

# The last looks at what the others have written.
docs: go ## rewrite the tables and messages of docs/, and the golden files
	go test $$(grep -rl --include=*_test.go 'flag.Bool("update"' . | xargs -n1 dirname | sort -u | grep -vx '\.') -update
	go test . -update

unit: go ## tests that need neither root nor libvirt
	@echo "building the tests, about 4 min the first time"
	@go build -v -race ./... 2>&1 | awk 'NR % 100 == 0 { print "  ... " $$0 }'
	go test -race ./...

lab-test: setup dev ## tests on the kernel, and on both libvirts
	@lab/pair lab-test make --no-print-directory lab-test-here

# In the lab LAB_NAME of libvirt LIBVIRT. They are built outside, once for both.
lab-test-here:
	lab/lab ceph-start
	go test -race -tags lab -exec '$(CURDIR)/lab/lab run' -count 1 -p 1 $(LAB_TESTS_$(LIBVIRT))

e2e: setup dev ## what a user sees, on both libvirts
	go test -c -tags e2e -o build/e2e.test ./e2e
	@lab/pair e2e e2e/run

package-test: setup package ## whether the packages are right, and the README on a new Debian 12
	packaging/check.sh $(NFPM) build $(VERSION)
	lab/fresh

fresh: setup ## the README on a new Debian 12, with nothing in its caches
	NOTHING=1 lab/fresh

bench: setup dev ## the driver's own time, as ratios to the bare tools
	LAB_NAME=$(TEST_LAB) lab/lab down
	LAB_NAME=$(TEST_LAB) lab/lab up
	$(IN_LAB) go test -tags lab -run '^$$' -bench . -benchtime 10x -timeout 30m ./driver ./portmap ./storage
	LAB_NAME=$(TEST_LAB) lab/lab down

clean: ## remove what was built
	rm -rf build
