//! The VirtualService front end: one object in, a [`Routing`] out. Sees no other object and no proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{HttpRoute, VirtualServiceSpec};
use config::Respond;
use words::{Fingerprint, Origin, host};

use crate::connection_rule;
use crate::gateway_name;
use crate::intent::{ForwardRule, HttpRule, MESH, Routing, RuleAction, RuleMatch, StaticFilter};
use crate::mesh::MeshConfig;
use crate::notes::{LeftOut, Notes};
use crate::service::Age;
use crate::visibility::Export;
use crate::{fault, host_name, matches, mirror, retry, timeout, weight};

/// Most bytes of a direct response's body.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Lowers a VirtualService.
pub(crate) fn lower(origin: Origin, age: Age, spec: &VirtualServiceSpec, mesh: &MeshConfig) -> Routing {
    let VirtualServiceSpec { hosts, gateways, http, tls, tcp, export_to } = spec;
    let mut notes = Notes::about(&origin);
    let namespace = origin.namespace.clone();
    notes.not_obeyed(hosts.is_empty(), || "spec.hosts (a delegate)".into());
    let hosts = lower_hosts(hosts, (&namespace, &mesh.domain), &mut notes);
    let gateways = match gateways.is_empty() {
        true => BTreeSet::from([MESH.to_owned()]),
        false => gateways.iter().map(|name| gateway_name::resolve(name, &namespace)).collect(),
    };
    let export = Export::parse(export_to, &mesh.default_virtual_service_export_to, &namespace);
    let mut rules = Vec::with_capacity(http.len());
    for (index, rule) in http.iter().enumerate() {
        match lower_rule(rule, index, &namespace, mesh, &mut notes) {
            Ok(rule) => rules.push(rule),
            Err(reason) => notes.left_out(reason),
        }
    }
    let tls = connection_rule::tls(tls, (&namespace, &mesh.domain), &mut notes);
    let tcp = connection_rule::tcp(tcp, (&namespace, &mesh.domain), &mut notes);
    let diagnostics = notes.into_found();
    let print = Fingerprint::of(&(&origin, &age, &hosts, &gateways, &export, &rules, (&tls, &tcp), &diagnostics));
    Routing { origin, age, hosts, gateways, export, http: rules, tls, tcp, diagnostics, print }
}

/// Complete, lower case, each once.
fn lower_hosts(written: &[String], place: (&str, &str), notes: &mut Notes) -> Vec<Arc<str>> {
    let mut hosts: Vec<Arc<str>> = Vec::with_capacity(written.len());
    for (index, written) in written.iter().enumerate() {
        let host = host::resolve_short(written, place.0, place.1);
        if !host_name::is_usable(&host) {
            notes.ignored(format!("spec.hosts[{index}]"), format!("{written:?} is not a host"));
        } else if !hosts.iter().any(|known| **known == *host) {
            hosts.push(host.into());
        }
    }
    hosts
}

fn lower_rule(
    rule: &HttpRoute,
    index: usize,
    namespace: &str,
    mesh: &MeshConfig,
    notes: &mut Notes,
) -> Result<HttpRule, LeftOut> {
    let place = (namespace, mesh.domain.as_str());
    let field = format!("spec.http[{index}]");
    let HttpRoute {
        name,
        r#match,
        route,
        redirect,
        direct_response,
        delegate,
        rewrite,
        timeout: bound,
        retries,
        fault,
        // Read together, in `mirror.rs`.
        mirror: _,
        mirrors: _,
        mirror_percent: _,
        mirror_percentage: _,
        cors_policy,
        headers,
    } = rule;
    for (set, leaf) in
        [(rewrite.is_some(), "rewrite"), (cors_policy.is_some(), "corsPolicy"), (headers.is_some(), "headers")]
    {
        notes.not_obeyed(set, || format!("{field}.{leaf}"));
    }
    for (set, leaf) in [(redirect.is_some(), "redirect"), (delegate.is_some(), "delegate")] {
        if set {
            return Err(LeftOut::because(format!("{field}.{leaf}"), format!("{leaf} is not obeyed yet")));
        }
    }
    let action = match direct_response {
        Some(answer) => RuleAction::Respond(respond(answer, &field)?),
        None if route.is_empty() => {
            return Err(LeftOut::because(&field, "there is no route, redirect or directResponse"));
        }
        None => RuleAction::Forward(ForwardRule {
            destinations: weight::lower(route, &field, place, notes)?,
            timeout: timeout::lower(bound.as_ref(), || format!("{field}.timeout"), notes),
            retry: match retries {
                None => retry::default(mesh.default_retries),
                Some(block) => retry::lower(block, &format!("{field}.retries"), mesh.default_retries, notes),
            },
            ignores_previous_hosts: retries.as_ref().and_then(|block| block.retry_ignore_previous_hosts),
            fault: fault.as_ref().and_then(|block| fault::lower(block, &format!("{field}.fault"), notes)),
            mirrors: mirror::lower(rule, &field, place, notes),
            shadow_host: mesh.shadow_host_suffix,
        }),
    };
    let mut blocks = Vec::with_capacity(r#match.len().max(1));
    for (at, block) in r#match.iter().enumerate() {
        blocks.push(matches::lower(block, &format!("{field}.match[{at}]"), place.0, notes)?);
    }
    if blocks.is_empty() {
        let request = config::RouteMatch::any();
        blocks.push(RuleMatch { name: String::new(), request, filter: StaticFilter::default() });
    }
    Ok(HttpRule { index, name: name.clone().unwrap_or_default(), matches: blocks, action })
}

fn respond(answer: &api::http_actions::DirectResponse, field: &str) -> Result<Respond, LeftOut> {
    let field = format!("{field}.directResponse");
    let status = u16::try_from(answer.status).ok().filter(|status| (200..=599).contains(status)).ok_or_else(|| {
        LeftOut::because(format!("{field}.status"), format!("{} is not between 200 and 599", answer.status))
    })?;
    let body = match &answer.body {
        None => String::new(),
        Some(body) if body.bytes.is_some() => {
            return Err(LeftOut::because(format!("{field}.body.bytes"), "bytes is not obeyed yet"));
        }
        Some(body) => body.string.clone().unwrap_or_default(),
    };
    if body.len() > BODY_BYTES_MAX {
        let message = format!("{} bytes are more than {BODY_BYTES_MAX}", body.len());
        return Err(LeftOut::because(format!("{field}.body"), message));
    }
    Ok(Respond { status, body: body.into() })
}
