//! Scalars with a schema of their own: durations.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration as text, `1s`; at least 1 ms (the CRD's CEL rule, X05). Read it with [`Duration::get`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

/// A duration that may also be `0s`: cookie ttl, tcp idleTimeout, budgetInterval (X05).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LooseDuration(pub String);

impl Duration {
    /// The duration; `None` when the text is none.
    pub fn get(&self) -> Option<std::time::Duration> {
        words::duration::parse(&self.0)
    }
}

impl LooseDuration {
    /// The duration; `None` when the text is none.
    pub fn get(&self) -> Option<std::time::Duration> {
        words::duration::parse(&self.0)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "x-kubernetes-validations": [
                {"message": "must be a valid duration greater than 1ms", "rule": "duration(self) >= duration('1ms')"}
            ]
        })
    }
}

impl JsonSchema for LooseDuration {
    fn schema_name() -> Cow<'static, str> {
        "LooseDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}
