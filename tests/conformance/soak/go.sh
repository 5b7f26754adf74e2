#!/bin/sh
# Go: a program is built and run, and the standard library's own tests of locks, signals, processes and the runtime pass.
set -eu
cd "$(mktemp -d)"
export HOME="$PWD" GOCACHE="$PWD/cache" GOPATH="$PWD/path" GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPROXY=off
mkdir soak
cd soak
cat >go.mod <<'END'
module soak
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"sync"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(9)
	}
	var group sync.WaitGroup
	results := make(chan int, 16)
	for worker := 0; worker < 1000; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			garbage := make(map[int]string)
			for i := 0; i < 100; i++ {
				garbage[i] = fmt.Sprint(i * worker)
			}
			results <- len(garbage[worker%100])
			runtime.Gosched()
		}(worker)
	}
	go func() { group.Wait(); close(results) }()
	var all []int
	for result := range results {
		all = append(all, result)
	}
	sort.Ints(all)
	defer func() { fmt.Println(len(all), all[0], all[999], recover() != nil) }()
	err := exec.Command("/proc/self/exe", "child").Run()
	if err.(*exec.ExitError).ExitCode() != 9 {
		panic("another status")
	}
	var none *int
	*none = 1
}
END
go build -o soak .
[ "$(./soak)" = '1000 1 5 true' ]
cd "$(go env GOROOT)/src"
go test -short -vet=off sync os/signal context
go test -short -vet=off -run 'TestGC|TestChan|TestSelect|TestStack' runtime
