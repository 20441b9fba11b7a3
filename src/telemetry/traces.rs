//! Spans for an OpenTelemetry collector (OTLP over HTTP), in a program that was built with the feature `otlp`. They bear
//! the names and fields that log lines have: hosts, ids, positions, never what was said.

use tracing_subscriber::{Layer, Registry};

/// What collects spans. What was not sent yet is sent when it is dropped, so keep it as long as the program works.
#[derive(Debug, Default)]
pub struct Traces {
    #[cfg(feature = "otlp")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Traces {
    /// Nothing, or spans to the collector at `endpoint` (`http://127.0.0.1:4318/v1/traces`). Starts a thread: call it
    /// outside the async runtime.
    ///
    /// # Errors
    /// If the endpoint is no address to send to.
    #[cfg(feature = "otlp")]
    pub fn to(endpoint: &str) -> Result<Self, String> {
        use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
        use opentelemetry_sdk::Resource;
        use opentelemetry_sdk::trace::SdkTracerProvider;

        if endpoint.is_empty() {
            return Ok(Self::default());
        }
        let http = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = http.with_endpoint(endpoint).build();
        let exporter = exporter.map_err(|error| format!("ops.traces: {endpoint:?}: {error}"))?;
        let resource = Resource::builder().with_service_name("shearwater").build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Self { provider: Some(provider) })
    }

    /// Nothing: the program was built without the feature, and [`Config`](crate::config::Config) refuses an endpoint.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "otlp"))]
    pub fn to(_endpoint: &str) -> Result<Self, String> {
        Ok(Self::default())
    }

    /// What hands our own spans over, down to debug; other crates' stay out.
    #[cfg(feature = "otlp")]
    pub(super) fn layer(&self) -> Option<impl Layer<Registry>> {
        use opentelemetry::trace::TracerProvider as _;
        use tracing_subscriber::filter::Targets;

        let ours = Targets::new().with_target("shearwater", tracing::Level::DEBUG);
        let tracer = self.provider.as_ref()?.tracer("shearwater");
        Some(tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours))
    }

    #[cfg(not(feature = "otlp"))]
    #[expect(clippy::unused_self, reason = "with the feature it is used")]
    pub(super) fn layer(&self) -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
        None
    }
}

#[cfg(feature = "otlp")]
impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
