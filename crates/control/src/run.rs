//! Wiring: sockets, the source, and the loop.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use watch::kubernetes::{Access, ConfigMaps, LeaseStore, Options, SecretStore, WebhookConfiguration};
use xds::grpc::AdsServer;

use crate::args::Args;
use crate::authenticate::{Authenticated, Authenticator};
use crate::ca;
use crate::certificates::Certificates;
use crate::control::{Control, Trust};
use crate::event::Event;
use crate::events::Recorder;
use crate::http::{self, Pages};
use crate::leader::{self, Candidacy, Leadership};
use crate::lifetime::{Lifetimes, Stage};
use crate::metrics::Metrics;
use crate::ports::{bind, serve};
use crate::replicas::Replicas;
use crate::reporter::Reporter;
use crate::reporting::Reporting;
use crate::rights::Rights;
use crate::secure::Secure;
use crate::webhook::bundle::{self, Proof};
use crate::webhook::{self, Webhooks};
use crate::{roots, secure};

/// Events that wait for the loop; senders wait when there are more.
const EVENTS_WAITING_MAX: usize = 4096;
/// After a publication, changes are collected this long before the next one. The first change of a burst never waits.
const BETWEEN_PUBLICATIONS: Duration = Duration::from_millis(3);
/// Events taken before the loop looks whether a publication is due.
const EVENTS_AT_ONCE_MAX: usize = 1024;

/// Where we listen.
struct Sockets {
    plain: Option<TcpListener>,
    secured: Option<TcpListener>,
    reviewed: Option<TcpListener>,
    pages: TcpListener,
}

impl Sockets {
    fn open(args: &Args) -> Result<Self> {
        Ok(Self {
            plain: args.xds_address.0.map(|address| bind(address, "--xds-address")).transpose()?,
            secured: args.secure_address.map(|address| bind(address, "--secure-address")).transpose()?,
            reviewed: args.webhook_address.map(|address| bind(address, "--webhook-address")).transpose()?,
            pages: bind(args.http_address, "--http-address")?,
        })
    }
}

/// Runs the control plane until SIGTERM or Ctrl-C, or until its source breaks for good.
pub async fn run(args: Args) -> Result<()> {
    let Sockets { plain, secured, reviewed, pages } = Sockets::open(&args)?;
    let replica = args.replica();
    let source = source(&args).await?;
    let client = match &source {
        watch::Source::Kubernetes(client, _) => Some(client.clone()),
        watch::Source::Directory(_) => None,
    };
    let (leadership, candidacy) = stand(&args, client.as_ref(), &replica);
    let recorder = recorder(&args, client.as_ref(), &replica);
    let (events, queue) = mpsc::channel(EVENTS_WAITING_MAX);
    let (stage, stages) = watch_channel::channel(Stage::Serves);
    let reporting = client.as_ref().map(|client| report(client, &events, &leadership, &recorder));
    let metrics = Arc::new(Metrics::new());
    let secure = match secured.is_some() || reviewed.is_some() {
        true => Some(ca::keep(authority(&args, client.clone()), metrics.clone()).await?),
        false => None,
    };
    let (namespaces, known) = watch_channel::channel(BTreeSet::new());
    if let (Some(client), Some(secure)) = (&client, &secure) {
        keep_trust(&args, client, secure, leadership, known);
    }
    let settings = webhook::settings(args.injection(), client.clone());
    if let (Some(listener), Some(secure)) = (reviewed, &secure) {
        let webhooks = Webhooks::new(events.clone(), settings.clone(), args.mesh(), client.clone());
        let accepted = secure::accept(listener, secure.clone(), secure::API_SERVERS, |serving| &serving.webhooks);
        tokio::spawn(webhooks.serve(accepted, stages.clone()));
    }
    tokio::spawn(forward_source(watch::spawn(source)?, events.clone()));
    tokio::spawn(http::serve(pages, Pages::new(events.clone(), metrics.clone(), settings)));
    let rights = Rights::new(client.clone(), args.secret_namespaces().into_iter().collect());
    tokio::spawn(rights.clone().keep(events.clone()));
    let known = Known { client, metrics: metrics.clone(), recorder, rights: rights.clone(), events: events.clone() };
    let mut servers = serve_proxies(&args, (plain, secured), secure.as_ref(), known, stages)?;
    tracing::info!(xds = ?args.xds_address.0, secure = ?args.secure_address, webhooks = ?args.webhook_address, http = %args.http_address, "listening");
    let trust = Trust { serves_secrets: args.serve_secrets, secure, rights, namespaces };
    let (namespace, http_port) = (args.own_namespace().to_owned(), args.http_address.port());
    let replicas = Replicas { namespace, me: replica, http_port };
    let mut control = Control::new(args.mesh(), trust, metrics, replicas);
    control.reporting = reporting;
    control.lifetimes = Lifetimes::new(args.age_max());
    let stopping = tokio::spawn(stop(candidacy, events));
    let outcome = tokio::select! {
        outcome = drive(control, queue, stage) => outcome,
        Some(outcome) = servers.join_next() => outcome.context("the xDS server stopped")?,
    };
    // Whoever ends for another reason gives the Lease back by its age.
    if outcome.is_ok() {
        let _ = stopping.await;
    }
    outcome
}

// What becomes of objects is said on them, by the replica that leads.
fn report(
    client: &kube::Client,
    events: &mpsc::Sender<Event>,
    leadership: &Leadership,
    recorder: &Recorder,
) -> Reporting {
    let (client, events) = (client.clone(), events.clone());
    let (leadership, recorder) = (leadership.clone(), recorder.clone());
    let reporting = Reporting::new(recorder.clone());
    tokio::spawn(Reporter { client, events, leadership, recorder }.run());
    reporting
}

// The cluster trusts us: the webhooks' configurations, and the roots in every namespace.
fn keep_trust(
    args: &Args,
    client: &kube::Client,
    secure: &Secure,
    leadership: Leadership,
    namespaces: watch_channel::Receiver<BTreeSet<Arc<str>>>,
) {
    if args.webhook_address.is_some() {
        keep_bundles(args, client, secure, &leadership);
    }
    let maps = ConfigMaps::new(client.clone(), &args.injection.root_config_map, roots::KEY, args.owner.clone());
    tokio::spawn(roots::keep(maps, secure.clone(), namespaces, leadership));
}

// By what callers are known, and where what they want is asked for.
struct Known {
    client: Option<kube::Client>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    rights: Rights,
    events: mpsc::Sender<Event>,
}

// xDS in plaintext; xDS and certificates over TLS.
fn serve_proxies(
    args: &Args,
    (plain, secured): (Option<TcpListener>, Option<TcpListener>),
    secure: Option<&Secure>,
    known: Known,
    stages: watch_channel::Receiver<Stage>,
) -> Result<JoinSet<Result<()>>> {
    let Known { client, metrics, recorder, rights, events } = known;
    let mut servers = JoinSet::new();
    let workloads = client.is_some().then(|| events.clone());
    let service = ads(events);
    if let Some(listener) = plain {
        let services = Routes::new(service.clone());
        servers.spawn(serve(TcpListenerStream::new(listener), services, args.age_max(), stages.clone()));
    }
    if let (Some(listener), Some(secure)) = (secured, secure) {
        let authenticator = Authenticator::new(args.trust_domain.clone(), secure.clone(), client, metrics.clone());
        let life = args.workload_cert_ttl;
        let certificates = Certificates { secure: secure.clone(), life, metrics, recorder, workloads };
        let streams = Authenticated::new(service, authenticator.clone()).learning(rights);
        let services = Routes::new(streams).add_service(Authenticated::new(certificates, authenticator));
        let accepted = secure::accept(listener, secure.clone(), secure::PROXIES, |serving| &serving.xds);
        servers.spawn(serve(accepted, services, args.age_max(), stages));
    }
    if servers.is_empty() {
        bail!("nobody can connect: say --secure-address, or --xds-address other than off");
    }
    Ok(servers)
}

// Asked to end: another leads, and proxies go to the other replicas one after the other.
async fn stop(candidacy: Option<Candidacy>, events: mpsc::Sender<Event>) {
    interrupted().await;
    tracing::info!("stopping: proxies go elsewhere");
    // The loop is gone only when the program ends.
    let _ = events.send(Event::Stop).await;
    if let Some(candidacy) = candidacy {
        candidacy.release().await;
    }
}

// The webhooks that the chart installs trust us.
fn keep_bundles(args: &Args, client: &kube::Client, secure: &Secure, leadership: &Leadership) {
    let mutating = WebhookConfiguration::mutating(client.clone(), &args.injector_webhook);
    let validating = WebhookConfiguration::validating(client.clone(), &args.validator_webhook);
    let proof = Proof { namespace: args.own_namespace().to_owned(), revision: args.injection().revision };
    // The chart says how the injector fails.
    for (what, proof) in [(mutating, None), (validating, Some(proof))] {
        tokio::spawn(bundle::keep(what, secure.clone(), leadership.clone(), proof));
    }
}

// Without an API server nobody writes, and nobody leads.
fn stand(args: &Args, client: Option<&kube::Client>, replica: &str) -> (Leadership, Option<Candidacy>) {
    match client {
        Some(client) if !args.read_only => {
            let store = LeaseStore::new(client.clone(), &args.root_namespace, &args.lease, args.owner.clone());
            let (leadership, candidacy) = leader::spawn(store, replica.to_owned());
            (leadership, Some(candidacy))
        }
        _ => (Leadership::never(), None),
    }
}

// Any replica may say what it saw: it has a word for one object each, and no two say the same.
fn recorder(args: &Args, client: Option<&kube::Client>, replica: &str) -> Recorder {
    match client {
        Some(client) if !args.read_only => Recorder::new(client.clone(), replica.to_owned()),
        _ => Recorder::silent(),
    }
}

async fn source(args: &Args) -> Result<watch::Source> {
    if let Some(dir) = &args.config_dir {
        return Ok(watch::Source::Directory(dir.clone()));
    }
    let access = Access { kubeconfig: args.kubeconfig.clone(), context: args.context.clone() };
    let client = watch::kubernetes::connect(access).await?;
    let options = match args.serve_secrets || args.secure_address.is_some() {
        true => Options::default().with_secrets(args.secret_namespaces()),
        false => Options::default(),
    };
    let options = Options { status: true, ..options };
    Ok(watch::Source::Kubernetes(client, options))
}

async fn forward_source(mut source: mpsc::Receiver<watch::Event>, events: mpsc::Sender<Event>) {
    while let Some(event) = source.recv().await {
        if events.send(Event::Source(event)).await.is_err() {
            return;
        }
    }
    // The loop is gone only when the program ends.
    let _ = events.send(Event::SourceEnded).await;
}

// Where an authority is, and who we are to others.
fn authority(args: &Args, client: Option<kube::Client>) -> ca::Place {
    ca::Place {
        directory: args.ca_dir.clone(),
        secret: client.map(|client| SecretStore::new(client, args.own_namespace(), ca::SECRET)),
        may_create: !args.read_only,
        trust_domain: args.trust_domain.clone(),
        names: args.serving_names(),
    }
}

// One service for all ports: streams are numbered together.
fn ads(events: mpsc::Sender<Event>) -> AdsServer {
    let (streams, mut queue) = mpsc::channel(EVENTS_WAITING_MAX);
    let forward = async move {
        while let Some(event) = queue.recv().await {
            if events.send(Event::Stream(event)).await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(forward);
    AdsServer::new(streams)
}

/// The loop: take what happened, publish when something changed.
async fn drive(
    mut control: Control,
    mut queue: mpsc::Receiver<Event>,
    stage: watch_channel::Sender<Stage>,
) -> Result<()> {
    let mut not_before = tokio::time::Instant::now();
    let mut waiting = Vec::with_capacity(EVENTS_AT_ONCE_MAX);
    // Up to when everything that is due was done.
    let mut followed = Instant::now();
    loop {
        tokio::select! {
            taken = queue.recv_many(&mut waiting, EVENTS_AT_ONCE_MAX) => {
                if taken == 0 {
                    return Ok(());
                }
                for event in waiting.drain(..) {
                    take(&mut control, event)?;
                }
            }
            () = tokio::time::sleep_until(not_before), if control.is_dirty() => {}
            () = until(control.deadline(followed)) => {}
        }
        if control.is_dirty() && tokio::time::Instant::now() >= not_before {
            control.publish(Instant::now());
            not_before = tokio::time::Instant::now() + BETWEEN_PUBLICATIONS;
        }
        followed = Instant::now();
        control.follow_up(followed);
        let reached = control.lifetimes.stage(followed);
        stage.send_if_modified(|stage| std::mem::replace(stage, reached) != reached);
        if control.has_stopped(followed) {
            return Ok(());
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn take(control: &mut Control, event: Event) -> Result<()> {
    let now = Instant::now();
    match event {
        Event::Source(event) => control.on_source(event, now),
        Event::SourceEnded => bail!("the source of configuration stopped"),
        Event::Stream(event) => control.on_stream(event, now),
        Event::Admission(ask) => {
            let known = control.known(&ask);
            // Who asked may have gone.
            let _ = ask.answer.send(known);
        }
        Event::Runs(ask) => {
            let runs = control.runs(&ask.id);
            // Who asked may have gone.
            let _ = ask.answer.send(runs);
        }
        Event::Rights => control.on_rights(now),
        Event::Stop => control.stop(now),
        Event::Leads(leads) => {
            if let Some(reporting) = &mut control.reporting {
                reporting.lead(leads, now);
            }
        }
        Event::Drafts(answer) => {
            // The writer is gone only when the program ends.
            let _ = answer.send(control.work(now));
        }
        Event::ReportAgain(list) => {
            for (key, mark, due) in list {
                if let Some(reporting) = &mut control.reporting {
                    reporting.again(key, mark, due);
                }
            }
        }
        Event::Question(question) => {
            // Who asked may have gone.
            let _ = question.answer.send(control.answer(&question.about, now));
        }
    }
    Ok(())
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(error) => {
            tracing::warn!("SIGTERM cannot be caught: {error}");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
