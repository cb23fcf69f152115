// Command kube is the Kubernetes control plane in one file: kube-apiserver, kube-controller-manager and
// kube-scheduler, chosen by the first argument.
//
// It adds nothing to them and changes nothing in them: tests that pass on it speak of the real Kubernetes. One binary
// instead of three because their code is nearly the same: it builds in little more time, and takes little more space,
// than kube-apiserver alone.
//
// Only the chosen command is ever constructed. Constructing a second one in the same process panics, because both
// register the same feature gates.
package main

import (
	"fmt"
	"os"
	_ "time/tzdata" // CronJob time zones, as the upstream commands have them

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics, as upstream
	_ "k8s.io/component-base/metrics/prometheus/version"  // build version metric, as upstream
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

const usage = "usage: kube kube-apiserver|kube-controller-manager|kube-scheduler [flags]"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	var construct func() *cobra.Command
	switch os.Args[1] {
	case "kube-apiserver":
		construct = apiserver.NewAPIServerCommand
	case "kube-controller-manager":
		construct = controllermanager.NewControllerManagerCommand
	case "kube-scheduler":
		construct = func() *cobra.Command { return scheduler.NewSchedulerCommand() }
	default:
		fmt.Fprintf(os.Stderr, "unknown command %q; %s\n", os.Args[1], usage)
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	os.Exit(cli.Run(construct()))
}
