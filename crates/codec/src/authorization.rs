//! Who may ask (Envoy `config.rbac.v3.RBAC`, in its HTTP and its network filter).
//!
//! What is about SPIFFE ids has no message of its own there: it is written as a regular expression over the whole id in
//! which every text is quoted, and read back only when it has exactly that form. A condition that is not understood refuses
//! the filter: left out, it would let through what must not pass.

use config::authorization::CONDITION_DEPTH_MAX;
use config::{Authorization, AuthorizationAction, AuthorizationRule, Caller, Condition, Operation, TextMatch};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::config::rbac::v3::permission::{self, Rule};
use envoy_types::pb::envoy::config::rbac::v3::principal::{self, Identifier};
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher;
use envoy_types::pb::google::protobuf::Any;

use crate::authentication;
use crate::common::{At, Reason, any, cidr, read_any, read_cidr};

/// The HTTP filter's name.
pub(crate) const HTTP_FILTER: &str = "envoy.filters.http.rbac";
/// The network filter's name.
pub(crate) const NETWORK_FILTER: &str = "envoy.filters.network.rbac";
const TEMPLATE: &str = "uri-template";
const AUTHORITY: &str = ":authority";
const METHOD: &str = ":method";
/// Istio's prefix of statistics.
const TCP_STAT_PREFIX: &str = "tcp.";

/// The HTTP filter.
pub(crate) fn http_filter(one: &Authorization) -> hcm::HttpFilter {
    let (rules, shadow_rules, shadow_rules_stat_prefix) = encode(one);
    let config = any(&HttpRbac { rules, shadow_rules, shadow_rules_stat_prefix, ..Default::default() });
    hcm::HttpFilter {
        name: HTTP_FILTER.into(),
        config_type: Some(ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// The settings of the network filter.
pub(crate) fn network_filter(one: &Authorization) -> Any {
    let (rules, shadow_rules, shadow_rules_stat_prefix) = encode(one);
    let stat_prefix = TCP_STAT_PREFIX.into();
    any(&NetworkRbac { rules, shadow_rules, shadow_rules_stat_prefix, stat_prefix, ..Default::default() })
}

// What is enforced, what is only tried, and the prefix of the latter's statistics (Istio's).
fn encode(one: &Authorization) -> (Option<pb::Rbac>, Option<pb::Rbac>, String) {
    let Authorization { action, rules, shadow } = one;
    let prefix = match (shadow, action) {
        (None, _) | (_, AuthorizationAction::Log) => "",
        (_, AuthorizationAction::Allow) => "istio_dry_run_allow_",
        (_, AuthorizationAction::Deny) => "istio_dry_run_deny_",
    };
    let of = |rules: &Vec<AuthorizationRule>| pb::Rbac {
        action: encode_action(*action) as i32,
        policies: rules.iter().map(|rule| (rule.name.clone(), encode_rule(rule))).collect(),
        ..Default::default()
    };
    (rules.as_ref().map(of), shadow.as_ref().map(of), prefix.to_owned())
}

fn encode_action(action: AuthorizationAction) -> pb::rbac::Action {
    match action {
        AuthorizationAction::Allow => pb::rbac::Action::Allow,
        AuthorizationAction::Deny => pb::rbac::Action::Deny,
        AuthorizationAction::Log => pb::rbac::Action::Log,
    }
}

fn encode_rule(rule: &AuthorizationRule) -> pb::Policy {
    let AuthorizationRule { name: _, operations, callers } = rule;
    pb::Policy {
        permissions: operations.iter().map(permission).collect(),
        principals: callers.iter().map(principal).collect(),
        ..Default::default()
    }
}

fn permission(condition: &Condition<Operation>) -> pb::Permission {
    let set = |many: &[Condition<Operation>]| permission::Set { rules: many.iter().map(permission).collect() };
    let rule = match condition {
        Condition::Always => Rule::Any(true),
        Condition::All(all) => Rule::AndRules(set(all)),
        Condition::One(some) => Rule::OrRules(set(some)),
        Condition::Not(inner) => Rule::NotRule(Box::new(permission(inner))),
        Condition::Is(operation) => operation_rule(operation),
    };
    pb::Permission { rule: Some(rule) }
}

fn operation_rule(operation: &Operation) -> Rule {
    match operation {
        Operation::Host(text) => Rule::Header(header(AUTHORITY, text, true)),
        Operation::Method(text) => Rule::Header(header(METHOD, text, false)),
        Operation::Path(text) => {
            Rule::UrlPath(matcher::PathMatcher { rule: Some(matcher::path_matcher::Rule::Path(string(text))) })
        }
        Operation::PathTemplate(template) => Rule::UriTemplate(TypedExtensionConfig {
            name: TEMPLATE.into(),
            typed_config: Some(any(&UriTemplateMatchConfig { path_template: template.clone() })),
        }),
        Operation::Port(port) => Rule::DestinationPort((*port).into()),
        Operation::Address(range) => Rule::DestinationIp(cidr(range)),
        Operation::ServerName(text) => Rule::RequestedServerName(string(text)),
    }
}

fn principal(condition: &Condition<Caller>) -> pb::Principal {
    let set = |many: &[Condition<Caller>]| principal::Set { ids: many.iter().map(principal).collect() };
    let identifier = match condition {
        Condition::Always => Identifier::Any(true),
        Condition::All(all) => Identifier::AndIds(set(all)),
        Condition::One(some) => Identifier::OrIds(set(some)),
        Condition::Not(inner) => Identifier::NotId(Box::new(principal(inner))),
        Condition::Is(caller) => caller_id(caller),
    };
    pb::Principal { identifier: Some(identifier) }
}

#[allow(deprecated, reason = "Istio sends it, and all versions of Envoy take it")]
fn caller_id(caller: &Caller) -> Identifier {
    let named = |name: matcher::StringMatcher| {
        Identifier::Authenticated(principal::Authenticated { principal_name: Some(name) })
    };
    match caller {
        Caller::Principal(text) => named(string(text)),
        Caller::Namespace(text) => named(regex(format!("spiffe://{SEGMENT}/ns/{}/.*", segment(text)))),
        Caller::TrustDomain(text) => named(regex(format!("spiffe://{}/.*", segment(text)))),
        Caller::ServiceAccount { namespace, name } => {
            named(regex(format!("spiffe://{SEGMENT}/ns/{}/sa/{}", quote(namespace), quote(name))))
        }
        Caller::Address(range) => Identifier::DirectRemoteIp(cidr(range)),
        Caller::RemoteAddress(range) => Identifier::RemoteIp(cidr(range)),
        Caller::Header { name, value } => Identifier::Header(header(name, value, false)),
        Caller::Claim { path, value } => Identifier::Metadata(claim(path, string(value))),
    }
}

/// A condition on a claim: a text, or a list with such a text.
pub(crate) fn claim(path: &[String], value: matcher::StringMatcher) -> matcher::MetadataMatcher {
    let key = |key: &str| PathSegment { segment: Some(path_segment::Segment::Key(key.to_owned())) };
    let text =
        || matcher::ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(value.clone())) };
    let list =
        matcher::ListMatcher { match_pattern: Some(matcher::list_matcher::MatchPattern::OneOf(Box::new(text()))) };
    let list = matcher::ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(list))) };
    let either = matcher::OrMatcher { value_matchers: vec![text(), list] };
    matcher::MetadataMatcher {
        filter: authentication::FILTER.into(),
        path: std::iter::once(authentication::PAYLOAD).chain(path.iter().map(String::as_str)).map(key).collect(),
        value: Some(matcher::ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::OrMatch(either)) }),
        invert: false,
    }
}

fn header(name: &str, text: &TextMatch, ignore_case: bool) -> HeaderMatcher {
    let specifier = match text {
        TextMatch::Present => HeaderMatchSpecifier::PresentMatch(true),
        text => HeaderMatchSpecifier::StringMatch(matcher::StringMatcher { ignore_case, ..string(text) }),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

fn string(text: &TextMatch) -> matcher::StringMatcher {
    let pattern = match text {
        TextMatch::Present => return regex(ANYTHING.into()),
        TextMatch::Exact(text) => MatchPattern::Exact(text.clone()),
        TextMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
        TextMatch::Suffix(text) => MatchPattern::Suffix(text.clone()),
    };
    matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// Some text.
pub(crate) const ANYTHING: &str = ".+";
/// Any part between two slashes of an id.
const SEGMENT: &str = "[^/]*";
/// Stands for it while an expression is taken apart.
const ANY_PART: &str = "\0";

fn regex(regex: String) -> matcher::StringMatcher {
    let regex = matcher::RegexMatcher { regex, ..Default::default() };
    matcher::StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex)), ..Default::default() }
}

fn segment(text: &TextMatch) -> String {
    match text {
        TextMatch::Present => SEGMENT.into(),
        TextMatch::Exact(text) => quote(text),
        TextMatch::Prefix(text) => format!("{}{SEGMENT}", quote(text)),
        TextMatch::Suffix(text) => format!("{SEGMENT}{}", quote(text)),
    }
}

const META: &str = r"\.+*?()|[]{}^$";

fn quote(text: &str) -> String {
    text.chars().flat_map(|letter| META.contains(letter).then_some('\\').into_iter().chain([letter])).collect()
}

// `None` when something in it is not a plain letter.
fn unquote(regex: &str) -> Option<String> {
    let mut letters = regex.chars();
    let mut text = String::with_capacity(regex.len());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(letters.next().filter(|letter| META.contains(*letter))?),
            letter if META.contains(letter) || letter == '\0' => return None,
            letter => text.push(letter),
        }
    }
    Some(text)
}

fn read_segment(part: &str) -> Option<TextMatch> {
    Some(match (part.strip_prefix(ANY_PART), part.strip_suffix(ANY_PART)) {
        (Some(""), _) => TextMatch::Present,
        (Some(suffix), _) => TextMatch::Suffix(unquote(suffix)?),
        (None, Some(prefix)) => TextMatch::Prefix(unquote(prefix)?),
        (None, None) => TextMatch::Exact(unquote(part)?),
    })
}

// What a regular expression over a SPIFFE id says; also in the form of older istiods, `.*/ns/<namespace>/.*`.
fn read_spiffe(regex: &str) -> Option<Caller> {
    let parts = regex.replace(SEGMENT, ANY_PART);
    let rest = match parts.strip_prefix(".*/ns/") {
        Some(rest) => format!("{ANY_PART}/ns/{rest}"),
        None => parts.strip_prefix("spiffe://")?.to_owned(),
    };
    match rest.split('/').collect::<Vec<_>>()[..] {
        [domain, ".*"] => Some(Caller::TrustDomain(read_segment(domain)?)),
        [ANY_PART, "ns", namespace, ".*"] => Some(Caller::Namespace(read_segment(namespace)?)),
        [ANY_PART, "ns", namespace, "sa", name] => {
            Some(Caller::ServiceAccount { namespace: unquote(namespace)?, name: unquote(name)? })
        }
        _ => None,
    }
}

/// The rules of an HTTP filter; `None` for another filter.
pub(crate) fn decode_http(config: &Any, notes: &mut Vec<String>) -> Option<Result<Authorization, Reason>> {
    let filter = match read_any::<HttpRbac>(config)? {
        Ok(filter) => filter,
        Err(reason) => return Some(Err(reason)),
    };
    if filter.matcher.is_some() || filter.shadow_matcher.is_some() {
        return Some(Err("rbac: a matcher is not obeyed here".into()));
    }
    Some(decode(filter.rules.as_ref(), filter.shadow_rules.as_ref(), notes).at("rbac"))
}

/// The rules of a network filter; `None` for another filter.
pub(crate) fn decode_network(config: &Any, notes: &mut Vec<String>) -> Option<Result<Authorization, Reason>> {
    let filter = match read_any::<NetworkRbac>(config)? {
        Ok(filter) => filter,
        Err(reason) => return Some(Err(reason)),
    };
    if filter.matcher.is_some() || filter.shadow_matcher.is_some() {
        return Some(Err("rbac: a matcher is not obeyed here".into()));
    }
    Some(decode(filter.rules.as_ref(), filter.shadow_rules.as_ref(), notes).at("rbac"))
}

fn decode(
    rules: Option<&pb::Rbac>,
    shadow: Option<&pb::Rbac>,
    notes: &mut Vec<String>,
) -> Result<Authorization, Reason> {
    let action = |rules: &pb::Rbac| match pb::rbac::Action::try_from(rules.action) {
        Ok(pb::rbac::Action::Allow) => Ok(AuthorizationAction::Allow),
        Ok(pb::rbac::Action::Deny) => Ok(AuthorizationAction::Deny),
        Ok(pb::rbac::Action::Log) => Ok(AuthorizationAction::Log),
        Err(_) => Err(format!("action: {} is none", rules.action)),
    };
    let of = match (rules, shadow) {
        (Some(rules), _) | (None, Some(rules)) => action(rules)?,
        (None, None) => AuthorizationAction::Log,
    };
    let shadow = match shadow {
        Some(shadow) if action(shadow)? != of => {
            notes.push("rbac: shadow rules of another action are not tried here".into());
            None
        }
        shadow => shadow,
    };
    Ok(Authorization {
        action: of,
        rules: rules.map(decode_rules).transpose().at("rules")?,
        shadow: shadow.map(decode_rules).transpose().at("shadow_rules")?,
    })
}

fn decode_rules(rules: &pb::Rbac) -> Result<Vec<AuthorizationRule>, Reason> {
    let mut read = Vec::with_capacity(rules.policies.len());
    for (name, policy) in &rules.policies {
        read.push(decode_rule(name, policy).at("policies")?);
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(read)
}

fn decode_rule(name: &str, policy: &pb::Policy) -> Result<AuthorizationRule, Reason> {
    if policy.condition.is_some() || policy.checked_condition.is_some() {
        return Err(format!("{name:?} has a condition in CEL, which is not obeyed here"));
    }
    let operations: Result<Vec<_>, Reason> = policy.permissions.iter().map(|one| read_permission(one, 0)).collect();
    let callers: Result<Vec<_>, Reason> = policy.principals.iter().map(|one| read_principal(one, 0)).collect();
    Ok(AuthorizationRule { name: name.to_owned(), operations: operations?, callers: callers? })
}

fn deeper(depth: usize) -> Result<usize, Reason> {
    (depth < CONDITION_DEPTH_MAX).then_some(depth + 1).ok_or_else(|| "conditions stand too deep in one another".into())
}

fn read_permission(permission: &pb::Permission, depth: usize) -> Result<Condition<Operation>, Reason> {
    let depth = deeper(depth)?;
    let set = |set: &permission::Set| -> Result<Vec<_>, Reason> {
        set.rules.iter().map(|one| read_permission(one, depth)).collect()
    };
    Ok(match permission.rule.as_ref().ok_or("a permission of a kind that is not obeyed here")? {
        Rule::Any(_) => Condition::Always,
        Rule::AndRules(all) => Condition::All(set(all)?),
        Rule::OrRules(some) => Condition::One(set(some)?),
        Rule::NotRule(inner) => Condition::Not(Box::new(read_permission(inner, depth)?)),
        leaf => Condition::Is(read_operation(leaf)?),
    })
}

fn read_operation(rule: &Rule) -> Result<Operation, Reason> {
    Ok(match rule {
        Rule::Header(header) => match header.name.as_str() {
            AUTHORITY => Operation::Host(read_header(header, true)?),
            METHOD => Operation::Method(read_header(header, false)?),
            other => return Err(format!("a permission by header {other:?} is not obeyed here")),
        },
        Rule::UrlPath(matcher::PathMatcher { rule: Some(matcher::path_matcher::Rule::Path(text)) }) => {
            Operation::Path(read_string(text)?)
        }
        Rule::UriTemplate(template) => {
            let config = template.typed_config.as_ref().and_then(read_any::<UriTemplateMatchConfig>);
            Operation::PathTemplate(config.ok_or("a template of a kind that is not obeyed here")??.path_template)
        }
        Rule::DestinationPort(port) => {
            Operation::Port(u16::try_from(*port).map_err(|_| format!("port {port} is above 65535"))?)
        }
        Rule::DestinationIp(range) => Operation::Address(read_cidr(range)?),
        Rule::RequestedServerName(text) => Operation::ServerName(read_string(text)?),
        _ => return Err("a permission of a kind that is not obeyed here".into()),
    })
}

fn read_principal(principal: &pb::Principal, depth: usize) -> Result<Condition<Caller>, Reason> {
    let depth = deeper(depth)?;
    let set = |set: &principal::Set| -> Result<Vec<_>, Reason> {
        set.ids.iter().map(|one| read_principal(one, depth)).collect()
    };
    Ok(match principal.identifier.as_ref().ok_or("a principal of a kind that is not obeyed here")? {
        Identifier::Any(_) => Condition::Always,
        Identifier::AndIds(all) => Condition::All(set(all)?),
        Identifier::OrIds(some) => Condition::One(set(some)?),
        Identifier::NotId(inner) => Condition::Not(Box::new(read_principal(inner, depth)?)),
        leaf => Condition::Is(read_caller(leaf)?),
    })
}

#[allow(deprecated, reason = "older control planes still send them")]
fn read_caller(identifier: &Identifier) -> Result<Caller, Reason> {
    Ok(match identifier {
        Identifier::Authenticated(named) => match &named.principal_name {
            None => Caller::Principal(TextMatch::Present),
            Some(name) => match &name.match_pattern {
                Some(MatchPattern::SafeRegex(regex)) if regex.regex != ANYTHING => read_spiffe(&regex.regex)
                    .ok_or_else(|| {
                        format!("a principal by the regular expression {:?} is not obeyed here", regex.regex)
                    })?,
                _ => Caller::Principal(read_string(name)?),
            },
        },
        Identifier::DirectRemoteIp(range) | Identifier::SourceIp(range) => Caller::Address(read_cidr(range)?),
        Identifier::RemoteIp(range) => Caller::RemoteAddress(read_cidr(range)?),
        Identifier::Header(header) => {
            Caller::Header { name: header.name.to_ascii_lowercase(), value: read_header(header, false)? }
        }
        Identifier::Metadata(metadata) => read_claim(metadata)?,
        _ => return Err("a principal of a kind that is not obeyed here".into()),
    })
}

fn read_claim(metadata: &matcher::MetadataMatcher) -> Result<Caller, Reason> {
    if metadata.invert {
        return Err("an inverted condition on a claim is not obeyed here".into());
    }
    let (path, text) = read_metadata(metadata)?;
    Ok(Caller::Claim { path, value: read_string(text)? })
}

/// The names of a claim, and the condition on its text.
pub(crate) fn read_metadata(
    metadata: &matcher::MetadataMatcher,
) -> Result<(Vec<String>, &matcher::StringMatcher), Reason> {
    let key = |segment: &PathSegment| match &segment.segment {
        Some(path_segment::Segment::Key(key)) => key.clone(),
        None => String::new(),
    };
    let path: Vec<String> = metadata.path.iter().map(key).collect();
    let (authentication::FILTER, Some((first, path))) = (metadata.filter.as_str(), path.split_first()) else {
        return Err(format!("metadata of {:?} is not obeyed here", metadata.filter));
    };
    if first != authentication::PAYLOAD || path.is_empty() {
        return Err(format!("metadata {first:?} is not obeyed here"));
    }
    let text = metadata.value.as_ref().and_then(text_of).ok_or("a claim's value of a kind that is not obeyed here")?;
    Ok((path.to_vec(), text))
}

// The text in any of the forms that istiods send: the text, a list with the text, or one of both.
fn text_of(value: &matcher::ValueMatcher) -> Option<&matcher::StringMatcher> {
    match value.match_pattern.as_ref()? {
        value_matcher::MatchPattern::StringMatch(text) => Some(text),
        value_matcher::MatchPattern::ListMatch(list) => match list.match_pattern.as_ref()? {
            matcher::list_matcher::MatchPattern::OneOf(inner) => match inner.match_pattern.as_ref()? {
                value_matcher::MatchPattern::StringMatch(text) => Some(text),
                _ => None,
            },
        },
        value_matcher::MatchPattern::OrMatch(either) => {
            let [text, list] = either.value_matchers.as_slice() else { return None };
            let (text, list) = (text_of(text)?, text_of(list)?);
            (text == list).then_some(text)
        }
        _ => None,
    }
}

fn read_header(header: &HeaderMatcher, ignore_case: bool) -> Result<TextMatch, Reason> {
    if header.invert_match || header.treat_missing_header_as_empty {
        return Err(format!("an inverted condition on header {:?} is not obeyed here", header.name));
    }
    match &header.header_match_specifier {
        Some(HeaderMatchSpecifier::PresentMatch(true)) => Ok(TextMatch::Present),
        Some(HeaderMatchSpecifier::StringMatch(text)) if text.ignore_case == ignore_case => {
            read_string(&matcher::StringMatcher { ignore_case: false, ..text.clone() })
        }
        _ => Err(format!("a condition on header {:?} is of a kind that is not obeyed here", header.name)),
    }
}

fn read_string(text: &matcher::StringMatcher) -> Result<TextMatch, Reason> {
    if text.ignore_case {
        return Err("a condition that ignores case is not obeyed here".into());
    }
    Ok(match &text.match_pattern {
        Some(MatchPattern::Exact(text)) => TextMatch::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => TextMatch::Prefix(text.clone()),
        Some(MatchPattern::Suffix(text)) => TextMatch::Suffix(text.clone()),
        Some(MatchPattern::SafeRegex(regex)) if regex.regex == ANYTHING => TextMatch::Present,
        _ => return Err("a condition on a text is of a kind that is not obeyed here".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_texts_are_letters_and_nothing_else() {
        for text in ["a.b", "a*b", "a+(b)", "[^", r"\d", "plain-1_2"] {
            assert_eq!(unquote(&quote(text)).as_deref(), Some(text));
            let whole = regex::Regex::new(&format!("^(?:{})$", quote(text))).expect("compiles");
            assert!(whole.is_match(text) && !whole.is_match("axb"), "{text}");
        }
        assert_eq!(unquote("a.b"), None);
        assert_eq!(read_spiffe(".*/ns/foo/.*"), Some(Caller::Namespace(TextMatch::Exact("foo".into()))));
        assert_eq!(read_spiffe(".*/ns/foo.*/.*"), None);
    }
}
