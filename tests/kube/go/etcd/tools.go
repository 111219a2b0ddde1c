//go:build tools

// Package kubeetcd keeps etcd in go.mod.
package kubeetcd

import _ "go.etcd.io/etcd/server/v3"
