//! Redirects (Envoy `route.v3.RedirectAction`).

use config::{Redirect, RedirectPath};
use envoy_types::pb::envoy::config::route::v3::RedirectAction;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};

use crate::common::Reason;

pub(crate) fn encode(redirect: &Redirect) -> RedirectAction {
    let Redirect { scheme, host, port, path, status } = redirect;
    let code = match status {
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::MovedPermanently,
    };
    RedirectAction {
        host_redirect: host.clone().unwrap_or_default(),
        port_redirect: port.unwrap_or_default().into(),
        response_code: code as i32,
        scheme_rewrite_specifier: scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path.clone().map(|path| match path {
            RedirectPath::Whole(path) => PathRewriteSpecifier::PathRedirect(path),
            RedirectPath::Matched(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
        }),
        ..Default::default()
    }
}

pub(crate) fn decode(action: &RedirectAction, notes: &mut Vec<String>) -> Result<Redirect, Reason> {
    if action.strip_query {
        notes.push("redirect: strip_query is not obeyed here".into());
    }
    let filled = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    Ok(Redirect {
        scheme: match &action.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".into()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => filled(scheme),
            _ => None,
        },
        host: filled(&action.host_redirect),
        port: match u16::try_from(action.port_redirect) {
            Ok(port) => Some(port).filter(|port| *port != 0),
            Err(_) => return Err(format!("port_redirect: {} is not a port", action.port_redirect)),
        },
        path: match &action.path_rewrite_specifier {
            Some(PathRewriteSpecifier::PathRedirect(path)) => filled(path).map(RedirectPath::Whole),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => filled(prefix).map(RedirectPath::Matched),
            Some(_) => return Err("a new path of a kind that is not obeyed here".into()),
            None => None,
        },
        status: match RedirectResponseCode::try_from(action.response_code) {
            Ok(RedirectResponseCode::MovedPermanently) => 301,
            Ok(RedirectResponseCode::Found) => 302,
            Ok(RedirectResponseCode::SeeOther) => 303,
            Ok(RedirectResponseCode::TemporaryRedirect) => 307,
            Ok(RedirectResponseCode::PermanentRedirect) => 308,
            Err(_) => return Err(format!("response_code: {} is not known", action.response_code)),
        },
    })
}
