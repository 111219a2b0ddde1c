//! A name server for cases: the names that a case says, nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// What one name resolves to.
pub type Names = BTreeMap<String, Vec<IpAddr>>;

/// A running name server; dropping it stops it.
pub struct NameServer {
    _tasks: JoinSet<()>,
}

/// How long an answer to a question of a test may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Answers for `names` over UDP and TCP.
pub async fn serve(address: SocketAddr, names: Names) -> Result<NameServer> {
    let udp = UdpSocket::bind(address).await.with_context(|| format!("name server at {address} (UDP)"))?;
    let tcp = TcpListener::bind(address).await.with_context(|| format!("name server at {address} (TCP)"))?;
    let mut tasks = JoinSet::new();
    let names = std::sync::Arc::new(names);
    let shared = names.clone();
    tasks.spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            if let Some(answer) = answer(&buffer[..length], &shared) {
                // A client that has gone asks no more.
                let _ = udp.send_to(&answer, peer).await;
            }
        }
    });
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            while let Ok(question) = read_framed(&mut stream).await {
                let Some(answer) = answer(&question, &names) else { break };
                if write_framed(&mut stream, &answer).await.is_err() {
                    break;
                }
            }
        }
    });
    Ok(NameServer { _tasks: tasks })
}

/// The answer to a question; `None`: it cannot be read.
pub fn answer(question: &[u8], names: &Names) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    let query = asked.queries.first()?.clone();
    let found = names.get(query.name().to_ascii().to_ascii_lowercase().trim_end_matches('.'));
    let code = if found.is_some() { ResponseCode::NoError } else { ResponseCode::NXDomain };
    let mut made = Message::error_msg(asked.metadata.id, OpCode::Query, code);
    made.metadata.recursion_available = true;
    made.add_query(query.clone());
    for address in found.into_iter().flatten() {
        let data = match (address, query.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A((*v4).into()),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA((*v6).into()),
            _ => continue,
        };
        made.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    }
    made.to_vec().ok()
}

/// An answer, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`.
    pub code: String,
    /// The name that the question's is another name of.
    pub alias_of: Option<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// The shortest time to keep the answer, in seconds.
    pub ttl: Option<u32>,
}

/// Asks a server over UDP or TCP.
pub async fn ask(server: SocketAddr, question: &[u8], tcp: bool) -> Result<Vec<u8>> {
    tokio::time::timeout(ANSWER_MAX, exchange(server, question, tcp)).await.context("no answer in time")?
}

/// A question for the addresses of a name, of family `A` or `AAAA`.
pub fn question(name: &str, kind: &str) -> Result<Vec<u8>> {
    let kind: RecordType = kind.parse().with_context(|| format!("record type {kind:?}"))?;
    let mut question = Message::new(4711, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(format!("{name}."))?, kind));
    Ok(question.to_vec()?)
}

/// Takes an answer apart.
pub fn read(answer: &[u8]) -> Result<Resolved> {
    let answer = Message::from_vec(answer)?;
    if answer.metadata.id != 4711 {
        bail!("the answer has another id");
    }
    let code = match answer.metadata.response_code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        other => format!("{other:?}"),
    };
    let mut found = Resolved { code, alias_of: None, addresses: Vec::new(), ttl: None };
    for record in &answer.answers {
        found.ttl = Some(found.ttl.map_or(record.ttl, |ttl| ttl.min(record.ttl)));
        match &record.data {
            RData::A(v4) => found.addresses.push(IpAddr::V4(v4.0)),
            RData::AAAA(v6) => found.addresses.push(IpAddr::V6(v6.0)),
            RData::CNAME(real) => found.alias_of = Some(real.to_ascii().trim_end_matches('.').to_owned()),
            other => bail!("an answer of another kind: {other:?}"),
        }
    }
    Ok(found)
}

async fn exchange(server: SocketAddr, question: &[u8], tcp: bool) -> Result<Vec<u8>> {
    if tcp {
        let mut stream = TcpStream::connect(server).await?;
        write_framed(&mut stream, question).await?;
        return read_framed(&mut stream).await;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.send_to(question, server).await?;
    let mut buffer = vec![0; 4096];
    let (length, _) = socket.recv_from(&mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}

async fn read_framed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    stream.write_u16(u16::try_from(message.len())?).await?;
    Ok(stream.write_all(message).await?)
}
