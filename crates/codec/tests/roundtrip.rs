//! What is written is read back as it was; what is not ours is refused by name and never a panic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codec::{Decoded, Encoder, Options, ResourceKind, decode};
use config::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use words::Origin;

fn text() -> impl Strategy<Value = String> {
    "[a-z]{1,6}"
}

fn name() -> impl Strategy<Value = Name> {
    text().prop_map(|text| text.as_str().into())
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    option::of((text(), text()).prop_map(|(namespace, name)| Origin::new("VirtualService", &namespace, &name)))
}

fn positive() -> impl Strategy<Value = Duration> {
    (1_u64..100_000).prop_map(Duration::from_millis)
}

fn value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        Just(ValueMatch::Present),
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        text().prop_map(ValueMatch::Suffix),
        text().prop_map(ValueMatch::Contains),
        text().prop_map(ValueMatch::Regex),
    ]
}

fn matches() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        text().prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::Regex)
    ];
    let header = header_match();
    let query = (text(), value()).prop_map(|(name, value)| QueryMatch { name, value });
    let claim = (vec(text(), 1..3), value(), any::<bool>());
    let claim = claim.prop_map(|(path, value, invert)| ClaimMatch { path, value, invert });
    (path, any::<bool>(), vec(header, 0..3), vec(query, 0..3), vec(claim, 0..2)).prop_map(
        |(path, ignore_case, headers, query, claims)| RouteMatch { path, ignore_case, headers, query, claims },
    )
}

fn choice() -> impl Strategy<Value = ClusterChoice> {
    let weighted = (name(), 1_u32..100).prop_map(|(cluster, weight)| Weighted::new(cluster, weight));
    prop_oneof![name().prop_map(ClusterChoice::One), vec(weighted, 1..4).prop_map(ClusterChoice::Weighted)]
}

fn http_choice() -> impl Strategy<Value = ClusterChoice> {
    let weighted = (name(), 1_u32..100, header_changes(), option::of(text()))
        .prop_map(|(cluster, weight, headers, authority)| Weighted { cluster, weight, headers, authority });
    prop_oneof![name().prop_map(ClusterChoice::One), vec(weighted, 1..4).prop_map(ClusterChoice::Weighted)]
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let on = prop_oneof![
        Just("5xx,reset"),
        Just("connect-failure,refused-stream,unavailable"),
        Just("retriable-status-codes")
    ];
    let previous = (0_u32..9, any::<bool>(), option::of(1_u32..9));
    (on, vec(400_u16..600, 0..3), 1_u32..9, option::of(positive()), previous, option::of(positive())).prop_map(
        |(
            on,
            retriable_status_codes,
            num_retries,
            per_try_timeout,
            (host_selection_attempts, avoid_previous_hosts, previous_priorities),
            backoff_base,
        )| {
            RetryPolicy {
                retry_on: RetryOn::from_list(on).0,
                retriable_status_codes,
                num_retries,
                per_try_timeout,
                host_selection_attempts,
                avoid_previous_hosts,
                backoff_base,
                previous_priorities,
            }
        },
    )
}

fn share() -> impl Strategy<Value = Share> {
    (0_u32..=1_000_000).prop_map(Share::per_million)
}

fn fault() -> impl Strategy<Value = Fault> {
    let status = prop_oneof![(200_u16..600).prop_map(AbortStatus::Http), (0_u16..17).prop_map(AbortStatus::Grpc)];
    let delay = (positive(), share()).prop_map(|(fixed, share)| Delay { fixed, share });
    let abort = (status, share()).prop_map(|(status, share)| Abort { status, share });
    (option::of(delay), option::of(abort)).prop_map(|(delay, abort)| Fault { delay, abort })
}

fn mirror() -> impl Strategy<Value = Mirror> {
    (name(), share(), any::<bool>()).prop_map(|(cluster, share, shadow_host)| Mirror { cluster, share, shadow_host })
}

fn hash_key() -> impl Strategy<Value = HashKey> {
    let cookie = (text(), text(), option::of(positive()), vec((text(), text()), 0..3))
        .prop_map(|(name, path, ttl, attributes)| HashKey::Cookie(HashCookie { name, path, ttl, attributes }));
    prop_oneof![text().prop_map(HashKey::Header), cookie, Just(HashKey::SourceIp), text().prop_map(HashKey::Query)]
}

fn header_changes() -> impl Strategy<Value = Option<Box<HeaderChanges>>> {
    let how =
        prop_oneof![Just(PutHow::Append), Just(PutHow::IfAbsent), Just(PutHow::Overwrite), Just(PutHow::IfPresent)];
    let put = ("x-[a-z]{1,4}", prop_oneof![text(), Just("%REQ(x)%".to_owned())], how)
        .prop_map(|(name, value, how)| HeaderPut { name, value, how });
    let edits =
        (vec("x-[a-z]{1,4}", 0..3), vec(put, 0..3)).prop_map(|(remove, put)| HeaderEdits { remove, put }).boxed();
    (edits.clone(), edits).prop_map(|(request, response)| HeaderChanges { request, response }.into_option())
}

fn rewrite() -> impl Strategy<Value = Option<Box<Rewrite>>> {
    let path = prop_oneof![
        text().prop_map(PathRewrite::Matched),
        (text(), text()).prop_map(|(pattern, substitution)| PathRewrite::Regex { pattern, substitution }),
    ];
    (option::of(path), option::of(text())).prop_map(|(path, authority)| Rewrite { path, authority }.into_option())
}

fn redirect() -> impl Strategy<Value = Redirect> {
    let path = prop_oneof![text().prop_map(RedirectPath::Whole), text().prop_map(RedirectPath::Matched)];
    let status = proptest::sample::select(REDIRECT_CODES.to_vec());
    (option::of(text()), option::of(text()), option::of(1_u16..), option::of(path), status)
        .prop_map(|(scheme, host, port, path, status)| Redirect { scheme, host, port, path, status })
}

fn cors() -> impl Strategy<Value = Option<Box<CorsPolicy>>> {
    let origin = prop_oneof![
        text().prop_map(ValueMatch::Exact),
        text().prop_map(ValueMatch::Prefix),
        text().prop_map(ValueMatch::Regex)
    ];
    let policy = (vec(origin, 0..3), vec(text(), 4), any::<[bool; 2]>()).prop_map(
        |(allow_origins, texts, [credentials, forward])| {
            Box::new(CorsPolicy {
                allow_origins,
                allow_methods: texts[0].clone(),
                allow_headers: texts[1].clone(),
                expose_headers: texts[2].clone(),
                max_age: texts[3].clone(),
                allow_credentials: credentials,
                forward_unmatched: forward,
            })
        },
    );
    option::of(policy)
}

fn forward() -> impl Strategy<Value = Forward> {
    // A fault in which nothing is set reads back as none.
    let fault = fault().prop_map(|fault| Some(fault).filter(|fault| *fault != Fault::default()));
    let besides = (vec(hash_key(), 0..3), rewrite(), fault, vec(mirror(), 0..3));
    (http_choice(), option::of(positive()), option::of(retry()), besides).prop_map(
        |(cluster, timeout, retry, (hash, rewrite, fault, mirrors))| Forward {
            cluster,
            timeout,
            retry,
            hash,
            rewrite,
            fault,
            mirrors,
        },
    )
}

fn route() -> impl Strategy<Value = Route> {
    let body = vec(any::<u8>(), 0..9).prop_map(Into::into);
    let respond = (200_u16..600, body).prop_map(|(status, body)| Action::Respond(Respond { status, body }));
    let action =
        prop_oneof![3 => forward().prop_map(Action::Forward), 1 => respond, 1 => redirect().prop_map(Action::Redirect)];
    (text(), matches(), action, origin(), text(), header_changes(), cors(), text(), limits("rule-")).prop_map(
        |(name, matches, action, origin, operation, headers, cors, stat_prefix, limits)| Route {
            name,
            matches,
            action,
            origin,
            operation,
            headers,
            cors,
            stat_prefix,
            limits,
        },
    )
}

fn table() -> impl Strategy<Value = RouteTable> {
    let host = (name(), vec(text(), 1..3), vec(route(), 0..4), any::<[bool; 2]>(), limits("host-")).prop_map(
        |(name, domains, routes, [include_attempt_count, require_tls], limits)| {
            Arc::new(VirtualHost { name, domains, routes, include_attempt_count, require_tls, limits })
        },
    );
    (name(), any::<bool>(), vec(host, 0..4)).prop_map(|(name, ignore_port, virtual_hosts)| RouteTable {
        name,
        ignore_port,
        virtual_hosts,
    })
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 4]>(), 1_u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)))
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let place = prop_oneof![
        address().prop_map(EndpointAddress::Socket),
        (text(), 1_u16..).prop_map(|(name, port)| EndpointAddress::Dns(name, port)),
        text().prop_map(|path| EndpointAddress::Pipe(format!("/{path}"))),
    ];
    let health = prop_oneof![Just(Health::Healthy), Just(Health::Unhealthy), Just(Health::Draining)];
    let workload = vec(text(), 5).prop_map(|parts| Workload {
        name: parts[0].clone(),
        namespace: parts[1].clone(),
        canonical_name: parts[2].clone(),
        canonical_revision: parts[3].clone(),
        cluster_id: parts[4].clone(),
    });
    let endpoint = (place, 1_u32..100, health, (option::of(workload), any::<bool>()))
        .prop_map(|(address, weight, health, (workload, mtls))| Endpoint { address, weight, health, workload, mtls });
    let group = (text(), 0_u32..3, option::of(1_u32..9), vec(endpoint, 0..4)).prop_map(
        |(zone, priority, weight, endpoints)| LocalityEndpoints {
            locality: Locality { zone, ..Locality::default() },
            priority,
            weight,
            endpoints,
        },
    );
    (name(), vec(group, 0..3)).prop_map(|(cluster, localities)| Endpoints { cluster, localities })
}

fn cache() -> impl Strategy<Value = DnsCache> {
    (text(), 1_u32..9999).prop_map(|(name, hosts_max)| DnsCache { name, hosts_max })
}

fn names() -> impl Strategy<Value = NameTable> {
    let info = (vec(any::<std::net::IpAddr>(), 0..3), any::<bool>(), text(), text()).prop_map(
        |(addresses, kubernetes, short_name, namespace)| NameInfo { addresses, kubernetes, short_name, namespace },
    );
    proptest::collection::btree_map(text(), info, 0..4).prop_map(|names| NameTable { names })
}

fn balance() -> impl Strategy<Value = (Lb, Balancing)> {
    let lb = prop_oneof![
        Just(Lb::LeastRequest),
        Just(Lb::RoundRobin),
        Just(Lb::Random),
        Just(Lb::ClusterProvided),
        (0_u32..9000).prop_map(|minimum_size| Lb::RingHash { minimum_size }),
        (0_u32..9000).prop_map(|table_size| Lb::Maglev { table_size }),
    ];
    let slow_start = (positive(), 1_u32..5_000_000, 0_u32..=1_000_000).prop_map(
        |(window, aggression_millionths, minimum_millionths)| SlowStart {
            window,
            aggression_millionths,
            minimum_millionths,
        },
    );
    let locality = prop_oneof![
        Just(LocalityMode::Flat),
        Just(LocalityMode::Weighted),
        (0_u8..=100, any::<u32>()).prop_map(|(routing_percent, min_cluster_size)| LocalityMode::ZoneAware {
            routing_percent,
            min_cluster_size
        }),
    ];
    (lb, option::of(slow_start), locality).prop_map(|(lb, slow_start, locality)| {
        // Envoy has a place for slow start only in these two.
        let slow_start = slow_start.filter(|_| matches!(lb, Lb::LeastRequest | Lb::RoundRobin));
        (lb, Balancing { slow_start, locality })
    })
}

fn http2_bounds() -> impl Strategy<Value = Http2Bounds> {
    let keepalive = (positive(), positive()).prop_map(|(interval, timeout)| Http2Keepalive { interval, timeout });
    (option::of(1_u32..100), option::of(keepalive))
        .prop_map(|(max_concurrent_streams, keepalive)| Http2Bounds { max_concurrent_streams, keepalive })
}

fn outlier() -> impl Strategy<Value = Outlier> {
    let counts = (0_u32..9, 0_u32..9, option::of(0_u32..9));
    (counts, vec(100_u16..600, 0..4), positive(), positive(), 0_u32..101).prop_map(
        |(counts, error_codes, interval, base_ejection_time, max_ejection_percent)| Outlier {
            consecutive_5xx: counts.0,
            consecutive_gateway: counts.1,
            consecutive_local: counts.2,
            error_codes,
            interval,
            base_ejection_time,
            max_ejection_percent,
        },
    )
}

// Host and route have limits of different names: one name is one bucket.
fn limits(prefix: &'static str) -> impl Strategy<Value = Vec<RateLimit>> {
    let key = option::of(prop_oneof![text().prop_map(RateKey::Header), Just(RateKey::SourceAddress)]);
    let limit =
        (text(), key, 1_u32..99, positive(), 1_u32..99).prop_map(move |(name, key, requests, interval, burst)| {
            RateLimit { name: format!("{prefix}{name}").into(), key, requests, interval, burst }
        });
    vec(limit, 0..3)
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let discovery = prop_oneof![
        name().prop_map(Discovery::Eds),
        endpoints().prop_map(Discovery::Static),
        endpoints().prop_map(Discovery::StrictDns),
        endpoints().prop_map(Discovery::LogicalDns),
        Just(Discovery::OriginalDst),
        cache().prop_map(Discovery::Dynamic),
    ];
    let protocol = prop_oneof![
        Just(UpstreamProtocol::Http1),
        Just(UpstreamProtocol::Http2),
        Just(UpstreamProtocol::SameAsDownstream)
    ];
    let budget = (share(), 0_u32..9, option::of(positive())).prop_map(|(share, min_concurrency, interval)| {
        RetryBudget { share, min_concurrency, interval: interval.unwrap_or_default() }
    });
    let thresholds = (any::<[u32; 4]>(), option::of(budget)).prop_map(
        |([max_connections, max_pending_requests, max_requests, max_retries], retry_budget)| Thresholds {
            max_connections,
            max_pending_requests,
            max_requests,
            max_retries,
            retry_budget,
        },
    );
    let keepalive = (option::of(1_u32..9), option::of(1_u32..9), option::of(1_u32..9))
        .prop_map(|(probes, time_seconds, interval_seconds)| TcpKeepalive { probes, time_seconds, interval_seconds });
    let service = (text(), text(), text(), prop_oneof![Just(String::new()), text()], any::<u16>())
        .prop_map(|(host, name, namespace, subset, port)| ServiceMeta { host, name, namespace, subset, port });
    let idle = option::of(prop_oneof![positive(), Just(Duration::ZERO)]);
    let first = (name(), discovery, balance(), positive(), protocol, idle);
    let second = (
        option::of(1_u32..),
        option::of(keepalive),
        thresholds,
        option::of(any::<[u8; 4]>()),
        option::of(1_u16..),
        option::of(client_tls()),
        option::of(service),
        origin(),
        (option::of(positive()), http2_bounds(), option::of(outlier()), 0_u32..101),
    );
    (first, second).prop_map(|((name, discovery, (lb, balancing), connect_timeout, protocol, idle_timeout), second)| {
        let (max_requests_per_connection, tcp_keepalive, thresholds, source, original_port, tls, service, origin, more) =
            second;
        // Envoy has one place for the settings of an algorithm.
        let original_port = original_port.filter(|_| lb == Lb::ClusterProvided);
        let (max_connection_duration, http2, outlier, panic_percent) = more;
        // HTTP/1 has no place for them.
        let http2 = if protocol == UpstreamProtocol::Http1 { Http2Bounds::default() } else { http2 };
        // A load assignment has the cluster's name: an empty one is filled in.
        Cluster {
            name,
            discovery,
            lb,
            balancing,
            connect_timeout,
            protocol,
            idle_timeout,
            max_requests_per_connection,
            tcp_keepalive,
            thresholds,
            max_connection_duration,
            http2,
            outlier,
            panic_percent,
            source_address: source.map(Into::into),
            source_address_v6: source.map(|_| std::net::Ipv6Addr::LOCALHOST),
            original_port,
            tls,
            service,
            origin,
        }
    })
}

fn secret() -> impl Strategy<Value = Secret> {
    let source = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(|bytes| Source::Inline(bytes.into())),
        text().prop_map(|path| Source::File(format!("/{path}"))),
        Just(Source::System),
    ]
    .boxed();
    let content = prop_oneof![
        (source.clone(), source.clone()).prop_map(|(chain, key)| SecretContent::Certificate { chain, key }),
        (source.clone(), option::of(source)).prop_map(|(roots, crl)| SecretContent::Roots { roots, crl }),
    ];
    (name(), content).prop_map(|(name, content)| Secret { name, content })
}

fn parameters() -> impl Strategy<Value = TlsParameters> {
    let version =
        || prop_oneof![Just(TlsVersion::V1_0), Just(TlsVersion::V1_1), Just(TlsVersion::V1_2), Just(TlsVersion::V1_3)];
    (version(), version(), vec(text(), 0..3)).prop_map(|(min, max, cipher_suites)| TlsParameters {
        min,
        max,
        cipher_suites,
    })
}

fn validation() -> impl Strategy<Value = Validation> {
    let san = prop_oneof![text(), text().prop_map(|id| format!("spiffe://{id}")), Just("10.0.0.1".to_owned())];
    let domains = vec(text(), 0..2);
    (secret_name(), vec(san, 0..3), domains, vec(text(), 0..2), vec(text(), 0..2), any::<bool>()).prop_map(
        |(roots, names, trust_domains, spki, hashes, accept_untrusted)| Validation {
            roots,
            names,
            trust_domains,
            spki,
            hashes,
            accept_untrusted,
        },
    )
}

// By SDS, or of the proxy's own.
fn secret_name() -> impl Strategy<Value = Option<Name>> {
    option::of(prop_oneof![name(), Just(config::OWN_CERTIFICATE.into()), Just(config::OWN_ROOTS.into())])
}

fn server_tls() -> impl Strategy<Value = ServerTls> {
    let clients =
        (any::<bool>(), validation()).prop_map(|(required, validation)| ClientCertificates { required, validation });
    (vec(name(), 0..3), option::of(clients), parameters(), vec(text(), 0..3))
        .prop_map(|(certificates, clients, parameters, alpn)| ServerTls { certificates, clients, parameters, alpn })
}

fn client_tls() -> impl Strategy<Value = ClientTls> {
    let sni = prop_oneof![Just(Sni::Absent), Just(Sni::FromHost), text().prop_map(Sni::Name)];
    (secret_name(), option::of(validation()), sni, any::<[bool; 3]>(), parameters(), vec(text(), 0..3)).prop_map(
        |(certificate, validation, sni, [verify_host, announces, marked_only], parameters, alpn)| ClientTls {
            certificate,
            validation,
            sni,
            verify_host,
            parameters,
            alpn,
            announces,
            marked_only,
        },
    )
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    (text(), value(), any::<bool>(), any::<bool>()).prop_map(|(name, value, invert, missing_is_empty)| HeaderMatch {
        name,
        value,
        invert,
        missing_is_empty,
    })
}

fn log_filter() -> impl Strategy<Value = LogFilter> {
    let how = prop_oneof![Just(Compare::Eq), Just(Compare::Ne), Just(Compare::Ge), Just(Compare::Le)].boxed();
    let leaf = prop_oneof![
        (how.clone(), 0_u32..600).prop_map(|(how, code)| LogFilter::Status(how, code)),
        (how, any::<u32>()).prop_map(|(how, millis)| LogFilter::Millis(how, millis)),
        vec(text(), 0..3).prop_map(LogFilter::Flags),
        header_match().prop_map(LogFilter::Header),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![vec(inner.clone(), 2..3).prop_map(LogFilter::All), vec(inner, 2..3).prop_map(LogFilter::Any)]
    })
}

fn metric() -> impl Strategy<Value = MetricRule> {
    let label = prop_oneof![
        text().prop_map(Label::Literal),
        text().prop_map(Label::Header),
        text().prop_map(Label::ResponseHeader),
        Just(Label::Host),
        Just(Label::Code),
    ];
    let metric = option::of((0..4_usize).prop_map(|index| Metric::ALL[index]));
    (metric, option::of(any::<bool>()), proptest::collection::btree_map(text(), option::of(label), 0..3))
        .prop_map(|(metric, dropped, labels)| MetricRule { metric, dropped, labels })
}

fn tracing() -> impl Strategy<Value = Tracing> {
    let source = prop_oneof![
        text().prop_map(TagSource::Literal),
        (text(), text()).prop_map(|(name, default)| TagSource::Environment(name, default)),
        (text(), text()).prop_map(|(name, default)| TagSource::Header(name, default)),
    ];
    let tag = (text(), source).prop_map(|(name, source)| SpanTag { name, source });
    (name(), text(), text(), 0_u32..=1_000_000, any::<[bool; 2]>(), vec(tag, 0..3)).prop_map(
        |(collector, authority, service_name, sampling, [by_request_id, upstream_spans], tags)| Tracing {
            collector,
            authority,
            service_name,
            sampling: Share::per_million(sampling),
            by_request_id,
            upstream_spans,
            tags,
        },
    )
}

fn listener() -> impl Strategy<Value = Listener> {
    let log = prop_oneof![
        Just(AccessLogFormat::Default),
        text().prop_map(AccessLogFormat::Text),
        proptest::collection::btree_map(text(), text(), 0..3).prop_map(AccessLogFormat::Json)
    ];
    let log =
        (text(), log, option::of(log_filter())).prop_map(|(path, format, filter)| AccessLog { path, format, filter });
    let log = vec(log, 0..2).boxed();
    let routes =
        prop_oneof![name().prop_map(RouteSource::Rds), table().prop_map(|table| RouteSource::Inline(Arc::new(table)))];
    let cidr =
        (any::<[u8; 4]>(), 0_u8..33).prop_map(|(ip, prefix_len)| Cidr { address: ip.into(), prefix_len }).boxed();
    let codec = prop_oneof![Just(HttpCodec::Auto), Just(HttpCodec::Http1), Just(HttpCodec::Http2)];
    let server = prop_oneof![Just(ServerHeader::PassThrough), text().prop_map(ServerHeader::Overwrite)];
    let idle = (
        option::of(positive()),
        option::of(cache()),
        vec(cidr.clone(), 0..3),
        option::of(tracing()),
        vec(metric(), 0..3),
        option::of(authentication()),
        vec(authorization(), 0..3),
    );
    let http = (text(), routes, codec, any::<[bool; 7]>(), 0_u32..5, server, idle, log.clone()).prop_map(
        |(
            stat_prefix,
            routes,
            codec,
            flags,
            xff_trusted_hops,
            server_header,
            (stream_idle_timeout, dynamic_hosts, internal_addresses, tracing, metrics, authentication, authorization),
            access_log,
        )| {
            Filter::Http(HttpManager {
                stat_prefix,
                routes,
                codec,
                use_remote_address: flags[0],
                xff_trusted_hops,
                internal_addresses,
                server_header,
                websocket: flags[1],
                normalize_path: flags[2],
                generate_request_id: flags[3],
                stream_idle_timeout,
                dynamic_hosts,
                access_log,
                client_cert_header: match (flags[4], flags[5]) {
                    (true, true) => ClientCertHeader::Append,
                    (true, false) => ClientCertHeader::Set,
                    (false, _) => ClientCertHeader::Remove,
                },
                tracing,
                metrics,
                announces: flags[6],
                authentication,
                authorization,
            })
        },
    );
    let dynamic = (cache(), 1_u16..).prop_map(|(cache, port)| DynamicHost { cache, port });
    let bounds = (option::of(positive()), option::of(positive()), vec(authorization(), 0..3));
    let tcp = (text(), choice(), any::<bool>(), bounds, option::of(dynamic), log).prop_map(
        |(
            stat_prefix,
            cluster,
            hash_source_ip,
            (idle_timeout, max_connection_duration, authorization),
            dynamic_host,
            access_log,
        )| {
            Filter::Tcp(TcpProxy {
                stat_prefix,
                cluster,
                hash_source_ip,
                idle_timeout,
                max_connection_duration,
                dynamic_host,
                access_log,
                authorization,
            })
        },
    );
    let transport = prop_oneof![Just(TransportMatch::Any), Just(TransportMatch::Plaintext), Just(TransportMatch::Tls)];
    let matches = (option::of(1_u16..), vec(cidr, 0..2), vec(text(), 0..2), transport, vec(text(), 0..2)).prop_map(
        |(destination_port, destination_ranges, server_names, transport, application_protocols)| ChainMatch {
            destination_port,
            destination_ranges,
            server_names,
            transport,
            application_protocols,
        },
    );
    let chain = (name(), matches, option::of(server_tls()), prop_oneof![http, tcp], origin())
        .prop_map(|(name, matches, tls, filter, origin)| FilterChain { name, matches, tls, filter, origin })
        .boxed();
    let direction = prop_oneof![Just(Direction::Inbound), Just(Direction::Outbound)];
    let places = (address(), option::of(address()));
    (name(), places, any::<[bool; 6]>(), direction, vec(chain.clone(), 0..3), option::of(chain), origin()).prop_map(
        |(name, (address, also), flags, direction, chains, default_chain, origin)| Listener {
            name,
            address,
            also,
            bind_to_port: flags[0],
            use_original_dst: flags[1],
            direction,
            filters: ListenerFilters {
                original_dst: flags[2],
                tls_inspector: flags[3],
                http_inspector: flags[4],
                proxy_protocol: flags[5],
            },
            chains,
            default_chain,
            origin,
        },
    )
}

fn text_match() -> impl Strategy<Value = TextMatch> {
    let text = "[a-z.*+]{1,6}";
    prop_oneof![
        Just(TextMatch::Present),
        text.prop_map(TextMatch::Exact),
        text.prop_map(TextMatch::Prefix),
        text.prop_map(TextMatch::Suffix),
    ]
}

fn range() -> impl Strategy<Value = Cidr> {
    (any::<[u8; 4]>(), 0_u8..33).prop_map(|(ip, prefix_len)| Cidr { address: ip.into(), prefix_len })
}

fn condition<T: std::fmt::Debug + Clone + 'static>(
    leaf: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Condition<T>> {
    let leaf = prop_oneof![Just(Condition::Always), leaf.prop_map(Condition::Is)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(Condition::All),
            vec(inner.clone(), 1..3).prop_map(Condition::One),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

fn authorization() -> impl Strategy<Value = Authorization> {
    let operation = prop_oneof![
        text_match().prop_map(Operation::Host),
        text_match().prop_map(Operation::Method),
        text_match().prop_map(Operation::Path),
        text().prop_map(|text| Operation::PathTemplate(format!("/{text}/*/**"))),
        any::<u16>().prop_map(Operation::Port),
        range().prop_map(Operation::Address),
        text_match().prop_map(Operation::ServerName),
    ];
    let caller = prop_oneof![
        text_match().prop_map(Caller::Principal),
        text_match().prop_map(Caller::Namespace),
        text_match().prop_map(Caller::TrustDomain),
        ("[a-z.]{1,6}", "[a-z.]{1,6}").prop_map(|(namespace, name)| Caller::ServiceAccount { namespace, name }),
        range().prop_map(Caller::Address),
        range().prop_map(Caller::RemoteAddress),
        (text(), text_match()).prop_map(|(name, value)| Caller::Header { name, value }),
        (vec(text(), 1..3), text_match()).prop_map(|(path, value)| Caller::Claim { path, value }),
    ];
    let rule = (vec(condition(operation), 1..3), vec(condition(caller), 1..3));
    let rules = option::of(proptest::collection::btree_map(text(), rule, 0..3).prop_map(|rules| {
        let rule = |(name, (operations, callers))| AuthorizationRule { name, operations, callers };
        rules.into_iter().map(rule).collect::<Vec<_>>()
    }))
    .boxed();
    let action =
        prop_oneof![Just(AuthorizationAction::Allow), Just(AuthorizationAction::Deny), Just(AuthorizationAction::Log)];
    (action, rules.clone(), rules)
        .prop_filter("something is said", |(_, rules, shadow)| rules.is_some() || shadow.is_some())
        .prop_map(|(action, rules, shadow)| Authorization { action, rules, shadow })
}

fn authentication() -> impl Strategy<Value = Authentication> {
    let keys = prop_oneof![
        text().prop_map(JwtKeys::Inline),
        (text(), name(), positive()).prop_map(|(uri, cluster, timeout)| JwtKeys::Remote { uri, cluster, timeout }),
    ];
    let pairs = || vec((text(), text()), 0..3);
    let texts = || vec(text(), 0..3);
    let from = (pairs(), texts(), texts());
    let to = (option::of(text()), any::<bool>(), pairs(), texts());
    let issuer = (text(), texts(), keys, from, to).prop_map(
        |(
            issuer,
            audiences,
            keys,
            (from_headers, from_params, from_cookies),
            (payload_header, forward, claim_headers, space_delimited_claims),
        )| JwtIssuer {
            name: String::new(),
            issuer,
            audiences,
            keys,
            from_headers,
            from_params,
            from_cookies,
            payload_header,
            forward,
            claim_headers,
            space_delimited_claims,
        },
    );
    vec(issuer, 1..4).prop_map(|mut issuers| {
        for (index, issuer) in issuers.iter_mut().enumerate() {
            issuer.name = format!("origins-{index}");
        }
        Authentication { issuers }
    })
}

fn read_back(snapshot: &Snapshot, options: Options) -> Vec<Decoded> {
    let encoded = Encoder::default().snapshot(snapshot, options);
    encoded.iter().map(|one| decode(one.kind, &one.name, &one.body).expect("our own bytes").0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn clusters_and_endpoints_read_back(cluster in cluster(), endpoints in endpoints()) {
        let mut snapshot = Snapshot::default();
        snapshot.clusters.insert(cluster.name.clone(), Arc::new(cluster.clone()));
        snapshot.endpoints.insert(endpoints.cluster.clone(), Arc::new(endpoints.clone()));
        prop_assert_eq!(read_back(&snapshot, Options::default()), [Decoded::Cluster(cluster), Decoded::Endpoints(endpoints)]);
    }

    #[test]
    fn names_read_back(names in names()) {
        let snapshot = Snapshot { names: Some(Arc::new(names.clone())), ..Snapshot::default() };
        prop_assert_eq!(read_back(&snapshot, Options::default()), [Decoded::NameTable(names)]);
    }

    #[test]
    fn secrets_read_back(secret in secret()) {
        let mut snapshot = Snapshot::default();
        snapshot.secrets.insert(secret.name.clone(), Arc::new(secret.clone()));
        prop_assert_eq!(read_back(&snapshot, Options::default()), [Decoded::Secret(secret)]);
    }

    #[test]
    fn listeners_read_back(listener in listener()) {
        let mut snapshot = Snapshot::default();
        snapshot.listeners.insert(listener.name.clone(), Arc::new(listener.clone()));
        prop_assert_eq!(read_back(&snapshot, Options::default()), [Decoded::Listener(listener)]);
    }

    #[test]
    fn tables_read_back_whole_and_in_parts(table in table()) {
        let mut snapshot = Snapshot::default();
        snapshot.routes.insert(table.name.clone(), Arc::new(table.clone()));
        prop_assert_eq!(read_back(&snapshot, Options::default()), [Decoded::Route { table: table.clone(), vhds: false }]);
        let parts = read_back(&snapshot, Options { vhds: true });
        let frame = RouteTable { virtual_hosts: Vec::new(), ..table.clone() };
        prop_assert_eq!(&parts[0], &Decoded::Route { table: frame, vhds: true });
        let hosts: Vec<Decoded> = table.virtual_hosts.iter().map(|host| Decoded::VirtualHost(host.as_ref().clone())).collect();
        prop_assert_eq!(&parts[1..], hosts);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        for kind in [ResourceKind::Cluster, ResourceKind::Endpoints, ResourceKind::Listener, ResourceKind::Route, ResourceKind::VirtualHost, ResourceKind::NameTable, ResourceKind::Secret] {
            if let Err(rejected) = decode(kind, "x", &bytes) {
                prop_assert!(rejected.to_string().contains("\"x\""));
            }
        }
    }
}

#[test]
fn an_unchanged_value_is_encoded_once() {
    let endpoints = Arc::new(Endpoints { cluster: "c".into(), localities: Vec::new() });
    let mut snapshot = Snapshot::default();
    snapshot.endpoints.insert("c".into(), endpoints);
    let mut encoder = Encoder::default();
    let first = encoder.snapshot(&snapshot, Options::default());
    let second = encoder.snapshot(&snapshot, Options::default());
    assert!(Arc::ptr_eq(&first[0], &second[0]));
    encoder.sweep();
    encoder.sweep();
    assert!(encoder.is_empty(), "what nobody asks for is forgotten");
}
