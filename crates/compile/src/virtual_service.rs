//! The VirtualService front end: one object in, a [`Routing`] out. Sees no other object and no proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{HttpRoute, VirtualServiceSpec};
use words::{Fingerprint, Origin, host};

use crate::connection_rule;
use crate::delegate::{Delegated, Delegation};
use crate::intent::{ForwardRule, HttpRule, MESH, Routing, RuleAction, RuleMatch};
use crate::mesh::MeshConfig;
use crate::notes::{LeftOut, Notes};
use crate::service::Age;
use crate::visibility::Export;
use crate::{
    cors, direct_response, fault, gateway_name, header_changes, host_name, matches, mirror, redirect, retry, rewrite,
    timeout, weight,
};

/// Lowers a VirtualService.
pub(crate) fn lower(origin: Origin, age: Age, spec: &VirtualServiceSpec, mesh: &MeshConfig) -> Routing {
    let VirtualServiceSpec { hosts, gateways, http, tls, tcp, export_to } = spec;
    let mut notes = Notes::about(&origin);
    let namespace = origin.namespace.clone();
    let hosts = lower_hosts(hosts, (&namespace, &mesh.domain), &mut notes);
    let gateways = match gateways.is_empty() {
        true => BTreeSet::from([MESH.to_owned()]),
        false => gateways.iter().map(|name| gateway_name::resolve(name, &namespace)).collect(),
    };
    let export = Export::parse(export_to, &mesh.default_virtual_service_export_to, &namespace);
    let mut rules = Vec::with_capacity(http.len());
    let mut delegations = Vec::new();
    let place = (&*namespace, mesh.domain.as_str());
    for (index, rule) in http.iter().enumerate() {
        if let Some(delegate) = rule.delegate.as_ref().filter(|_| !spec.hosts.is_empty()) {
            delegations.push(Delegation::new(rule, delegate, (index, rules.len()), place));
            continue;
        }
        match lower_rule(rule, index, &namespace, mesh, &mut notes) {
            Ok(rule) => rules.push(rule),
            Err(reason) => notes.left_out(reason),
        }
    }
    let delegated = spec.hosts.is_empty().then(|| Arc::new(Delegated::new(http, place)));
    let tls = connection_rule::tls(tls, (&namespace, &mesh.domain), &mut notes);
    let tcp = connection_rule::tcp(tcp, (&namespace, &mesh.domain), &mut notes);
    let diagnostics = notes.into_found();
    let all = (&rules, &tls, &tcp, &delegations, &delegated);
    let print = Fingerprint::of(&(&origin, &age, &hosts, &gateways, &export, all, &diagnostics));
    Routing { origin, age, hosts, gateways, export, http: rules, tls, tcp, delegations, delegated, diagnostics, print }
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

/// Lowers the rule at an index; `namespace` is that of its short names.
pub(crate) fn lower_rule(
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
    if delegate.is_some() {
        return Err(LeftOut::because(format!("{field}.delegate"), "a delegate cannot delegate (one level only)"));
    }
    let headers = header_changes::lower(headers.as_ref(), &format!("{field}.headers"), notes);
    let cors = cors::lower(cors_policy.as_ref(), &field, notes)?;
    let action = match (redirect, direct_response) {
        (Some(to), _) => RuleAction::Redirect(redirect::lower(to, &field)?),
        (None, Some(answer)) => RuleAction::Respond(direct_response::lower(answer, &field)?),
        (None, None) if route.is_empty() => {
            return Err(LeftOut::because(&field, "there is no route, redirect or directResponse"));
        }
        (None, None) => RuleAction::Forward(ForwardRule {
            destinations: weight::lower(route, &field, place, notes)?,
            timeout: timeout::lower(bound.as_ref(), || format!("{field}.timeout"), notes),
            retry: match retries {
                None => retry::default(mesh.default_retries),
                Some(block) => retry::lower(block, &format!("{field}.retries"), mesh.default_retries, notes),
            },
            ignores_previous_hosts: retries.as_ref().and_then(|block| block.retry_ignore_previous_hosts),
            rewrite: rewrite::lower(rewrite.as_ref(), headers.authority, &field)?,
            fault: fault.as_ref().and_then(|block| fault::lower(block, &format!("{field}.fault"), notes)),
            mirrors: mirror::lower(rule, &field, place, notes),
            shadow_host: mesh.shadow_host_suffix,
        }),
    };
    let mut blocks = Vec::with_capacity(r#match.len().max(1));
    for (at, block) in r#match.iter().enumerate() {
        blocks.push(matches::lower(block, &format!("{field}.match[{at}]"), place.0)?);
    }
    if blocks.is_empty() {
        blocks.push(RuleMatch::any());
    }
    let name = name.clone().unwrap_or_default();
    Ok(HttpRule { index, name, matches: blocks, action, headers: headers.changes, cors })
}
