//! What requests offer by ALPN, for Envoy: its own filter that sets filter state, fed by the metadata of the cluster that
//! a request goes to. Istio has a filter of its own for this, `istio.alpn`, which stock Envoy has not. Where the cluster
//! says nothing, nothing is set.

use envoy_types::pb::envoy::config::core::v3::{self as core, SubstitutionFormatString, data_source::Specifier};
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3 as state;
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;

use crate::common::any;
use crate::metadata;

/// The filter's name; Envoy goes by the type of its configuration.
pub(crate) const NAME: &str = "sluice.alpn";
/// The state that Envoy takes the protocols of a connection to an upstream from.
const STATE: &str = "envoy.network.application_protocols";

/// The filter.
pub(crate) fn filter() -> pb::HttpFilter {
    let text = format!("%METADATA(CLUSTER:istio:{})%", metadata::ALPN);
    let source = core::DataSource { specifier: Some(Specifier::InlineString(text)), watched_directory: None };
    let format = SubstitutionFormatString {
        format: Some(core::substitution_format_string::Format::TextFormatSource(source)),
        omit_empty_values: true,
        ..Default::default()
    };
    let value = state::FilterStateValue {
        key: Some(state::filter_state_value::Key::ObjectKey(STATE.into())),
        value: Some(state::filter_state_value::Value::FormatString(format)),
        skip_if_empty: true,
        ..Default::default()
    };
    pb::HttpFilter {
        name: NAME.into(),
        config_type: Some(ConfigType::TypedConfig(any(&Config {
            on_request_headers: vec![value],
            ..Default::default()
        }))),
        ..Default::default()
    }
}
