//! Changes of headers (Envoy `core.v3.HeaderValueOption` lists of routes and weighted clusters).

use config::{HeaderChanges, HeaderEdits, HeaderPut, PutHow};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction as How;

use crate::common::{Reason, is_true};

/// The four fields, as routes and weighted clusters both have them.
#[derive(Default)]
pub(crate) struct Lists {
    pub(crate) request_add: Vec<core::HeaderValueOption>,
    pub(crate) request_remove: Vec<String>,
    pub(crate) response_add: Vec<core::HeaderValueOption>,
    pub(crate) response_remove: Vec<String>,
}

/// The same, to be read.
pub(crate) struct Written<'a> {
    pub(crate) request_add: &'a [core::HeaderValueOption],
    pub(crate) request_remove: &'a [String],
    pub(crate) response_add: &'a [core::HeaderValueOption],
    pub(crate) response_remove: &'a [String],
}

pub(crate) fn encode(changes: Option<&HeaderChanges>) -> Lists {
    let Some(HeaderChanges { request, response }) = changes else { return Lists::default() };
    Lists {
        request_add: request.put.iter().map(encode_put).collect(),
        request_remove: request.remove.clone(),
        response_add: response.put.iter().map(encode_put).collect(),
        response_remove: response.remove.clone(),
    }
}

fn encode_put(put: &HeaderPut) -> core::HeaderValueOption {
    let HeaderPut { name, value, how } = put;
    let how = match how {
        PutHow::Append => How::AppendIfExistsOrAdd,
        PutHow::IfAbsent => How::AddIfAbsent,
        PutHow::Overwrite => How::OverwriteIfExistsOrAdd,
        PutHow::IfPresent => How::OverwriteIfExists,
    };
    core::HeaderValueOption {
        header: Some(core::HeaderValue { key: name.clone(), value: value.clone(), ..Default::default() }),
        append_action: how as i32,
        ..Default::default()
    }
}

pub(crate) fn decode(written: &Written<'_>, notes: &mut Vec<String>) -> Result<Option<Box<HeaderChanges>>, Reason> {
    let changes = HeaderChanges {
        request: decode_edits(written.request_add, written.request_remove, notes)?,
        response: decode_edits(written.response_add, written.response_remove, notes)?,
    };
    Ok(changes.into_option())
}

fn decode_edits(
    add: &[core::HeaderValueOption],
    remove: &[String],
    notes: &mut Vec<String>,
) -> Result<HeaderEdits, Reason> {
    let lower = |name: &String| name.to_ascii_lowercase();
    if let Some(name) = remove.iter().find(|name| is_reserved(name)) {
        return Err(format!("header {name:?} cannot be removed"));
    }
    let put = add.iter().map(|one| decode_put(one, notes)).collect::<Result<_, _>>()?;
    Ok(HeaderEdits { remove: remove.iter().map(lower).collect(), put })
}

#[allow(deprecated, reason = "older control planes still send append")]
fn decode_put(option: &core::HeaderValueOption, notes: &mut Vec<String>) -> Result<HeaderPut, Reason> {
    let header = option.header.as_ref().ok_or("a header without name and value")?;
    if is_reserved(&header.key) {
        return Err(format!("header {:?} cannot be changed", header.key));
    }
    if option.keep_empty_value {
        notes.push(format!("header {:?}: keep_empty_value is not obeyed here", header.key));
    }
    let value = match header.raw_value.is_empty() {
        true => header.value.clone(),
        false => String::from_utf8(header.raw_value.clone()).map_err(|_| "a header value that is not UTF-8")?,
    };
    let how = match How::try_from(option.append_action) {
        Ok(How::AppendIfExistsOrAdd) if !is_true(&option.append, true) => PutHow::Overwrite,
        Ok(How::AppendIfExistsOrAdd) => PutHow::Append,
        Ok(How::AddIfAbsent) => PutHow::IfAbsent,
        Ok(How::OverwriteIfExistsOrAdd) => PutHow::Overwrite,
        Ok(How::OverwriteIfExists) => PutHow::IfPresent,
        Err(_) => return Err(format!("append_action {} is not known", option.append_action)),
    };
    Ok(HeaderPut { name: header.key.to_ascii_lowercase(), value, how })
}

// Envoy refuses these too: what routes a request is changed by rewrites only.
fn is_reserved(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}
