// The OpenTelemetry Collector with what the tests need: OTLP in, a file of JSON lines out (OTLP/JSON, one batch a line).
// Its command line is the collector's own: --config FILE.
package main

import (
	"context"
	"log"
	"os"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

// The exporter's configuration: where the lines go.
type config struct {
	Path string `mapstructure:"path"`
}

// lines appends each batch to a file.
type lines struct {
	path string
}

func (lines) Start(context.Context, component.Host) error { return nil }
func (lines) Shutdown(context.Context) error              { return nil }
func (lines) Capabilities() consumer.Capabilities         { return consumer.Capabilities{} }

func (l lines) ConsumeTraces(_ context.Context, batch ptrace.Traces) error {
	text, err := (&ptrace.JSONMarshaler{}).MarshalTraces(batch)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	// One write a line: readers never see half of one.
	_, err = file.Write(append(text, '\n'))
	return err
}

func newLines(_ context.Context, _ exporter.Settings, from component.Config) (exporter.Traces, error) {
	return lines{path: from.(*config).Path}, nil
}

func factories() (otelcol.Factories, error) {
	receivers, err := receiver.MakeFactoryMap(otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	file := exporter.NewFactory(
		component.MustNewType("lines"),
		func() component.Config { return &config{} },
		exporter.WithTraces(newLines, component.StabilityLevelStable),
	)
	exporters, err := exporter.MakeFactoryMap(file)
	return otelcol.Factories{Receivers: receivers, Exporters: exporters}, err
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol", Description: "a collector for tests", Version: "1"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory()},
				DefaultScheme:     "file",
			},
		},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
