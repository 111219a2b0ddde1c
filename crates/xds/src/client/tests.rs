//! The rules of a client session.

use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::google::protobuf::Any;

use super::*;

fn response(kind: TypeUrl, nonce: &str, names: &[&str]) -> DeltaDiscoveryResponse {
    let resource = |name: &&str| Resource {
        name: (*name).to_owned(),
        version: "1".into(),
        resource: Some(Any { type_url: kind.url().into(), value: name.as_bytes().to_vec() }),
        ..Resource::default()
    };
    let resources = names.iter().map(resource).collect();
    DeltaDiscoveryResponse { type_url: kind.url().into(), nonce: nonce.into(), resources, ..Default::default() }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn started() -> ClientSession {
    let mut session = ClientSession::new(Node { id: "me".into(), ..Node::default() });
    session.reconnect();
    session
}

#[test]
fn a_stream_begins_with_wildcards_and_one_node() {
    let requests = ClientSession::new(Node { id: "me".into(), ..Node::default() }).reconnect();
    let urls: Vec<&str> = requests.iter().map(|request| request.type_url.as_str()).collect();
    assert_eq!(urls, [TypeUrl::Cluster.url(), TypeUrl::Listener.url()]);
    assert!(requests.iter().all(|request| request.resource_names_subscribe == ["*"]));
    assert!(requests[0].node.is_some() && requests[1].node.is_none());
}

#[test]
fn only_what_was_taken_is_held_and_said_again() {
    let mut session = started();
    for (nonce, refusal) in [("1", None), ("2", Some("no".to_owned()))] {
        let Heard::Update(update) = session.on_response(response(TypeUrl::Cluster, nonce, &[nonce])) else { panic!() };
        assert_eq!(update.upserts[0].body, nonce.as_bytes());
        let answer = session.answer(TypeUrl::Cluster, nonce, refusal.clone()).unwrap();
        assert_eq!(answer.response_nonce, nonce);
        assert_eq!(answer.error_detail.map(|status| status.message), refusal);
    }
    let first = session.reconnect().remove(0);
    assert_eq!(first.initial_resource_versions, [("1".to_owned(), "1".to_owned())].into());
}

#[test]
fn wants_become_differences_and_what_is_unwanted_is_forgotten() {
    let mut session = started();
    let first = session.want(TypeUrl::VirtualHost, names(&["80", "81"])).unwrap();
    assert_eq!(first.resource_names_subscribe, ["80", "81"]);
    session.on_response(response(TypeUrl::VirtualHost, "1", &["80/a", "81/a"]));
    session.answer(TypeUrl::VirtualHost, "1", None);
    let second = session.want(TypeUrl::VirtualHost, names(&["81", "82"])).unwrap();
    assert_eq!(
        (second.resource_names_subscribe, second.resource_names_unsubscribe),
        (vec!["82".into()], vec!["80".into()])
    );
    assert_eq!(session.held(TypeUrl::VirtualHost).keys().collect::<Vec<_>>(), ["81/a"]);
    assert!(session.want(TypeUrl::VirtualHost, names(&["81", "82"])).is_none());
}

#[test]
fn a_resource_of_another_type_is_refused_unseen() {
    let mut session = started();
    let mut wrong = response(TypeUrl::Cluster, "1", &["a"]);
    wrong.type_url = TypeUrl::Listener.url().into();
    let Heard::Refused(answer) = session.on_response(wrong) else { panic!() };
    assert!(answer.error_detail.unwrap().message.contains("a: resource of type"));
    assert!(session.is_answered());
    assert_eq!(session.on_response(response(TypeUrl::Secret, "1", &["a"])), Heard::Ignored);
}
