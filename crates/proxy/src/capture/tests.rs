//! The rules for sets of flags, in both languages.

use clap::Parser;

use super::apply::{dry, has_global, name_servers};
use super::args::Args;
use super::rules::{Family, Plan};

fn rules(flags: &str, families: &[Family], by_nft: bool) -> String {
    let words = flags.split_whitespace().map(|word| word.trim_matches('"'));
    let args = Args::try_parse_from(["iptables"].into_iter().chain(words)).unwrap();
    let servers = name_servers("# pods\nnameserver 10.96.0.10\nnameserver fd00::a\nsearch x\nnameserver\n");
    let plans: Vec<Plan> = families.iter().map(|family| Plan::new(&args, *family, &servers)).collect();
    dry(&plans, by_nft)
}

const USUAL: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x \"\" -b * -d 15090,15021,15020";
const BOTH: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn dp05_rules_of_an_injected_pod() {
    insta::assert_snapshot!("usual", rules(USUAL, &BOTH, false));
    insta::assert_snapshot!("usual-nft", rules(USUAL, &BOTH, true));
}

#[test]
fn dp12_rules_with_ports_and_ranges_included_and_excluded() {
    let flags = "-u 1337 -g 1338 -m REDIRECT -b 80,443 -d 9 -o 3306,5432 -q 8080 -i 10.0.0.0/8,fd00::/8 -x 10.1.0.0/16,10.2.3.4,fd01::/16 -c net1 -k virt0";
    insta::assert_snapshot!("ranges", rules(flags, &BOTH, false));
    insta::assert_snapshot!("ranges-nft", rules(flags, &BOTH, true));
}

#[test]
fn rules_that_capture_dns() {
    let flags = format!("{USUAL} --redirect-dns");
    insta::assert_snapshot!("dns", rules(&flags, &BOTH, false));
    insta::assert_snapshot!("dns-nft", rules(&flags, &[Family::V4], true));
    let all = rules(&format!("{USUAL} --capture-all-dns"), &[Family::V4], false);
    assert!(all.contains("-A ISTIO_OUTPUT_DNS -p udp --dport 53 -j REDIRECT --to-ports 15053\n"), "{all}");
}

#[test]
fn rules_of_tproxy() {
    let flags = USUAL.replace("REDIRECT", "TPROXY");
    insta::assert_snapshot!("tproxy", rules(&flags, &BOTH, false));
    insta::assert_snapshot!("tproxy-nft", rules(&flags, &[Family::V4], true));
}

#[test]
fn nothing_asked_for_captures_nothing_but_what_the_proxy_sends_to_its_own_pod() {
    insta::assert_snapshot!("nothing", rules("", &[Family::V4], false));
}

#[test]
fn flags_that_are_wrong_are_named() {
    for (flags, part) in [
        ("-b http", "\"http\" is no port"),
        ("-d 0", "\"0\" is no port"),
        ("-i 10.0.0.0/40", "\"10.0.0.0/40\" is no address range"),
        ("-x ten", "\"ten\" is no address range"),
        ("-m SOME", "SOME"),
        ("-u root", "root"),
        ("-c a;b", "\"a;b\" is no network interface"),
    ] {
        let words = ["iptables"].into_iter().chain(flags.split_whitespace());
        let error = Args::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains(part), "{flags}: {error}");
    }
}

#[test]
fn loopback_and_link_local_addresses_are_no_ipv6_to_capture() {
    let own = "00000000000000000000000000000001 01 80 10 80       lo\n\
               fe80000000000000d0e5f4fffe5a0001 02 40 20 80     eth0\n";
    assert!(!has_global(own) && !has_global(""));
    assert!(has_global(&format!("{own}fd000000000000000000000000000010 02 40 00 80     eth0\n")));
}
