use super::super::wire::Request;
use super::*;

fn route(dst: &str, gateway: Option<&str>) -> Route {
    Route::new(
        dst.parse().unwrap(),
        gateway.map(|gateway| gateway.parse().unwrap()),
    )
}

fn body(route: &Route) -> Vec<u8> {
    let message = message(5, route, "add").unwrap();
    Request::from(RouteNetlinkMessage::NewRoute(message)).body
}

#[test]
fn a_default_route_is_universe_unicast_in_the_main_table() {
    let expected = [
        2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0, // struct rtmsg
        8, 0, 1, 0, 0, 0, 0, 0, // RTA_DST
        8, 0, 4, 0, 5, 0, 0, 0, // RTA_OIF
        8, 0, 5, 0, 10, 7, 0, 1, // RTA_GATEWAY
    ];
    assert_eq!(body(&route("0.0.0.0/0", Some("10.7.0.1"))), expected);
}

#[test]
fn a_route_without_gateway_is_on_the_link_and_host_bits_are_dropped() {
    let sent = body(&route("10.8.1.2/16", None));
    assert_eq!(sent[..12], [2, 16, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]);
    assert_eq!(sent[12..20], [8, 0, 1, 0, 10, 8, 0, 0]);
}

#[test]
fn what_is_sent_is_read_back_equal() {
    for wish in [
        route("10.8.0.0/16", None),
        route("fd00:8::/48", Some("fd00::1")),
        route("10.8.0.0/16", Some("fd00::1")),
        Route {
            mtu: Some(1280),
            advmss: Some(1240),
            priority: Some(50),
            table: Some(1000),
            scope: Some(0),
            ..route("10.9.0.0/16", Some("10.7.0.1"))
        },
    ] {
        let live = decode(&body(&wish), 5).unwrap();
        assert!(wish.is_met_by(&live), "{wish}: {live:?}");
        assert_eq!(decode(&body(&wish), 6), None, "another link's");
    }
}

#[test]
fn every_difference_that_was_wished_for_counts() {
    let live = Route {
        mtu: Some(1280),
        priority: Some(50),
        table: Some(254),
        scope: Some(0),
        ..route("10.9.0.0/16", Some("10.7.0.1"))
    };
    let plain = route("10.9.0.0/16", Some("10.7.0.1"));
    assert!(plain.is_met_by(&live));
    for other in [
        route("10.9.0.0/17", Some("10.7.0.1")),
        route("10.9.0.0/16", Some("10.7.0.2")),
        route("10.9.0.0/16", None),
        Route {
            mtu: Some(1281),
            ..plain
        },
        Route {
            advmss: Some(1),
            ..plain
        },
        Route {
            priority: Some(51),
            ..plain
        },
        Route {
            table: Some(255),
            ..plain
        },
        Route {
            scope: Some(253),
            ..plain
        },
    ] {
        assert!(!other.is_met_by(&live), "{other:?}");
    }
}

#[test]
fn an_ipv6_destination_has_no_ipv4_gateway() {
    let error = message(5, &route("fd00::/64", Some("10.7.0.1")), "add").unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Malformed);
}

#[test]
fn broadcast_and_local_routes_are_passed_over() {
    let mut sent = body(&route("10.8.0.0/16", None));
    for kind in [libc::RTN_LOCAL, libc::RTN_BROADCAST, libc::RTN_BLACKHOLE] {
        sent[7] = kind;
        assert_eq!(decode(&sent, 5), None);
    }
}
