// Scenarios plays stories at the servers behind a name server, with the stock Go client, and prints one transcript.
//
// What it prints must be the same for every broker that behaves alike. Scenarios run side by side, each with topics
// and groups of its own; the transcript keeps their order. Exit status 1 when one did not get to its end.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

type scenario struct {
	name string
	play func(*stage) error
}

var scenarios = []scenario{
	{"retry", retry},
	{"delay", delay},
	{"share", share},
	{"restart", restart},
	{"clustered", clustered},
	{"broadcast", broadcast},
	{"tags", tags},
	{"ordered", ordered},
	{"pull", pull},
	{"send-sync", sendSync},
	{"send-async", sendAsync},
	{"send-one-way", sendOneWay},
	{"send-batch", sendBatch},
	{"refused", refused},
}

func main() {
	nameServers := flag.String("namesrv", "", "name servers, separated by semicolons")
	broker := flag.String("broker", "", "address of the broker on which topics are created")
	prefix := flag.String("prefix", "", "begins every topic and group name")
	only := flag.String("only", "", "scenarios, separated by commas")
	flag.Parse()
	rlog.SetLogLevel("fatal") // else every step is a line on stderr

	var wanted []scenario
	for _, s := range scenarios {
		if *only == "" || slices.Contains(strings.Split(*only, ","), s.name) {
			wanted = append(wanted, s)
		}
	}
	stages := make([]*stage, len(wanted))
	var running sync.WaitGroup
	for i, s := range wanted {
		stages[i] = &stage{name: s.name, nameServers: strings.Split(*nameServers, ";"), broker: *broker, prefix: *prefix}
		running.Go(func() {
			began := time.Now()
			if err := s.play(stages[i]); err != nil {
				stages[i].broken = true
				stages[i].line("BROKEN %v", err)
			}
			fmt.Fprintf(os.Stderr, "%-14s %6d ms\n", s.name, time.Since(began).Milliseconds())
		})
	}
	running.Wait()
	status := 0
	for _, s := range stages {
		fmt.Print(s.transcript())
		if s.broken {
			status = 1
		}
	}
	os.Exit(status)
}
