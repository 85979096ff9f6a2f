// The curl transport against a small server on loopback: every way in which an exchange can end.
#include "net/curl_transport.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>

#include <map>

#include "net/system_clock.hpp"
#include "net/transfer.hpp"
#include "net_server.hpp"

namespace mrprompt {
namespace {

struct Exchange {
    bool sent = false;
    int heads = 0;
    int status = 0;
    Headers headers;
    std::string body;
    int ends = 0;
    TransferEnd end{};
    std::string message;

    std::string header(const std::string& name) const {
        for (const auto& [key, value] : headers) {
            if (key == name) return value;
        }
        return "";
    }
};

class NetCurlTransport : public ::testing::Test, public TransferSink {
protected:
    void on_sent(std::uint64_t id) override { exchanges[id].sent = true; }
    void on_head(std::uint64_t id, int status, const Headers& headers) override {
        ++exchanges[id].heads;
        exchanges[id].status = status;
        exchanges[id].headers = headers;
    }
    void on_body(std::uint64_t id, std::string_view bytes) override { exchanges[id].body += bytes; }
    void on_end(std::uint64_t id, TransferEnd end, std::string_view message) override {
        ++ended;
        ++exchanges[id].ends;
        exchanges[id].end = end;
        exchanges[id].message = message;
    }

    static HttpRequest request(const std::string& url) {
        HttpRequest request;
        request.url = url;
        request.headers = {{"Content-Type", "application/json"}};
        request.secret_header = "Authorization: Bearer ";
        request.secret = Secret("sk-test-net");
        request.body = "{\"model\":\"m\"}";
        request.allow_private = true;
        request.connect_timeout_ms = 2'000;
        request.first_byte_timeout_ms = 5'000;
        request.idle_timeout_ms = 5'000;
        request.total_timeout_ms = 20'000;
        return request;
    }

    // Sleeps on the one descriptor alone, as the program does.
    void run_until(int count) {
        const std::int64_t give_up = clock.now_ms() + 20'000;
        while (ended < count && clock.now_ms() < give_up) {
            pollfd fd{transport.fd(), POLLIN, 0};
            poll(&fd, 1, 1'000);
            transport.pump(*this);
            ++pumps;
        }
        ASSERT_EQ(ended, count);
    }

    const Exchange& fetch(HttpRequest request, std::uint64_t max_body = 1 << 24) {
        const int before = ended;
        transport.start(++last_id, std::move(request), max_body);
        EXPECT_EQ(ended, before) << "the sink hears nothing inside start()";
        run_until(before + 1);
        return exchanges[last_id];
    }

    test::LoopbackServer server;
    SystemClock clock;
    CurlTransport transport{clock, 64};
    std::map<std::uint64_t, Exchange> exchanges;
    std::uint64_t last_id = 0;
    int ended = 0;
    int pumps = 0;
};

TEST_F(NetCurlTransport, an_exchange_brings_status_headers_in_lower_case_and_body) {
    const Exchange& exchange = fetch(request(server.url("/ok")));
    EXPECT_EQ(exchange.end, TransferEnd::complete);
    EXPECT_TRUE(exchange.sent);
    EXPECT_EQ(exchange.status, 200);
    EXPECT_EQ(exchange.header("content-type"), "application/json");
    EXPECT_EQ(exchange.body, "{\"ok\":true}");
}

TEST_F(NetCurlTransport, the_request_carries_key_and_body_and_says_who_asks) {
    fetch(request(server.url("/ok")));
    const std::string seen = server.last_request();
    EXPECT_TRUE(seen.starts_with("POST /ok HTTP/1.1\r\n")) << seen;
    EXPECT_NE(seen.find("\r\nAuthorization: Bearer sk-test-net\r\n"), std::string::npos) << seen;
    EXPECT_NE(seen.find("\r\nUser-Agent: mrprompt/"), std::string::npos) << seen;
    EXPECT_NE(seen.find("\r\nContent-Type: application/json\r\n"), std::string::npos) << seen;
    EXPECT_EQ(seen.find("Expect"), std::string::npos) << seen;
    EXPECT_TRUE(seen.ends_with("\r\n\r\n{\"model\":\"m\"}")) << seen;
}

TEST_F(NetCurlTransport, a_handle_used_again_remembers_nothing_of_the_request_before) {
    fetch(request(server.url("/ok")));
    HttpRequest bare;
    bare.url = server.url("/ok");
    bare.allow_private = true;
    bare.body = "second";
    EXPECT_EQ(fetch(std::move(bare)).end, TransferEnd::complete);
    EXPECT_EQ(server.last_request().find("sk-test-net"), std::string::npos);
    EXPECT_TRUE(server.last_request().ends_with("\r\n\r\nsecond"));
}

TEST_F(NetCurlTransport, requests_one_after_another_share_a_connection) {
    for (int i = 0; i < 20; ++i) fetch(request(server.url("/ok")));
    EXPECT_EQ(server.requests, 20);
    EXPECT_EQ(server.connections, 1);
}

TEST_F(NetCurlTransport, a_chunked_body_arrives_in_pieces_and_ends_whole) {
    const Exchange& exchange = fetch(request(server.url("/chunked")));
    EXPECT_EQ(exchange.end, TransferEnd::complete);
    EXPECT_EQ(exchange.body, "piece0;piece1;piece2;");
    EXPECT_EQ(exchange.header("x-request-id"), "r-7");
}

TEST_F(NetCurlTransport, only_the_final_response_head_is_told) {
    const Exchange& exchange = fetch(request(server.url("/interim")));
    EXPECT_EQ(exchange.heads, 1);
    EXPECT_EQ(exchange.status, 200);
    EXPECT_EQ(exchange.header("x-late"), "yes");
    EXPECT_EQ(exchange.header("x-early"), "");
}

TEST_F(NetCurlTransport, a_redirect_is_an_answer_and_is_not_followed) {
    EXPECT_EQ(fetch(request(server.url("/redirect"))).status, 302);
    EXPECT_EQ(server.requests, 1);
}

TEST_F(NetCurlTransport, an_error_status_keeps_its_headers) {
    const Exchange& exchange = fetch(request(server.url("/throttled")));
    EXPECT_EQ(exchange.status, 429);
    EXPECT_EQ(exchange.header("retry-after"), "3");
    EXPECT_EQ(exchange.end, TransferEnd::complete);
}

TEST_F(NetCurlTransport, a_closed_port_is_a_failed_connection) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    const std::string url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
    const Exchange& exchange = fetch(request(url));
    close(fd);
    EXPECT_EQ(exchange.end, TransferEnd::connect_failed);
    EXPECT_FALSE(exchange.sent);
    EXPECT_FALSE(exchange.message.empty());
}

TEST_F(NetCurlTransport, a_server_that_speaks_no_tls_is_refused) {
    std::string url = server.url("/ok");
    url.replace(0, 4, "https");
    const Exchange& exchange = fetch(request(url));
    EXPECT_EQ(exchange.end, TransferEnd::tls_failed) << exchange.message;
    EXPECT_EQ(exchange.message.find("sk-test-net"), std::string::npos);
}

TEST_F(NetCurlTransport, urls_that_are_not_http_and_headers_with_line_breaks_are_refused) {
    EXPECT_EQ(fetch(request("file:///etc/hostname")).end, TransferEnd::refused);
    EXPECT_EQ(fetch(request("http://user:word@127.0.0.1/")).end, TransferEnd::refused);
    HttpRequest split = request(server.url("/ok"));
    split.headers.emplace_back("X-A", "1\r\nX-B: 2");
    EXPECT_EQ(fetch(std::move(split)).end, TransferEnd::refused);
    HttpRequest bad_key = request(server.url("/ok"));
    bad_key.secret = Secret("sk-test\nX-C: 3");
    EXPECT_EQ(fetch(std::move(bad_key)).end, TransferEnd::refused);
    EXPECT_EQ(server.requests, 0);
}

TEST_F(NetCurlTransport, an_address_that_is_not_public_is_refused_before_anything_is_sent) {
    const std::string port = ":" + std::to_string(server.port()) + "/ok";
    for (const char* host :
         {"127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]"}) {
        HttpRequest local = request(std::string("http://") + host + port);
        local.allow_private = false;
        const Exchange& exchange = fetch(std::move(local));
        EXPECT_EQ(exchange.end, TransferEnd::address_refused) << host << ": " << exchange.message;
        EXPECT_FALSE(exchange.sent);
    }
    EXPECT_EQ(server.connections, 0);
    EXPECT_EQ(exchanges[2].message.find("the host localhost has the address "), 0u) << exchanges[2].message;
    EXPECT_NE(exchanges[1].message.find("127.0.0.1, a loopback address; "), std::string::npos);
    EXPECT_NE(exchanges[1].message.find("allow_private = true"), std::string::npos);
}

TEST_F(NetCurlTransport, a_kept_connection_is_not_for_a_request_that_may_not_be_with_its_address) {
    const auto local = [&](bool allowed) {
        HttpRequest one = request(server.url("/ok"));
        one.allow_private = allowed;
        return fetch(std::move(one)).end;
    };
    EXPECT_EQ(local(true), TransferEnd::complete);
    EXPECT_EQ(local(false), TransferEnd::address_refused);
    EXPECT_EQ(local(true), TransferEnd::complete);
    EXPECT_EQ(server.requests, 2);
}

TEST_F(NetCurlTransport, a_proxy_of_the_row_is_used_wherever_it_is_and_none_of_the_environment) {
    for (const char* name : {"http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"})
        setenv(name, "http://127.0.0.1:1", 1);
    EXPECT_EQ(fetch(request(server.url("/ok"))).end, TransferEnd::complete);
    setenv("no_proxy", "*", 1);
    HttpRequest proxied = request("http://llm.invalid/ok");
    proxied.allow_private = false;
    proxied.proxy = server.url("");
    EXPECT_EQ(fetch(std::move(proxied)).end, TransferEnd::complete) << exchanges[last_id].message;
    EXPECT_TRUE(server.last_request().starts_with("POST http://llm.invalid/ok HTTP/1.1\r\n"));
    for (const char* name : {"http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy", "no_proxy"})
        unsetenv(name);
}

TEST_F(NetCurlTransport, connections_that_end_inside_the_exchange_are_broken) {
    for (const char* path : {"/reset", "/cut", "/hang-up"}) {
        EXPECT_EQ(fetch(request(server.url(path))).end, TransferEnd::broken) << path;
    }
}

TEST_F(NetCurlTransport, a_body_over_the_limit_is_too_large) {
    EXPECT_EQ(fetch(request(server.url("/big")), 100'000).end, TransferEnd::too_large);
    EXPECT_LE(exchanges[last_id].body.size(), 100'000u);
    EXPECT_EQ(fetch(request(server.url("/big")), 1 << 20).end, TransferEnd::complete);
}

TEST_F(NetCurlTransport, a_body_over_the_limit_names_it) {
    EXPECT_EQ(fetch(request(server.url("/big")), 100'000).message,
              "the answer is larger than the 100000 bytes that mrprompt.max_response allows");
}

TEST_F(NetCurlTransport, a_head_that_does_not_end_is_too_large) {
    for (const char* path : {"/many-headers", "/long-header", "/interim-storm", "/trailers"}) {
        const Exchange& exchange = fetch(request(server.url(path)));
        EXPECT_EQ(exchange.end, TransferEnd::too_large) << path;
        EXPECT_NE(exchange.message.find("head of the answer"), std::string::npos) << exchange.message;
    }
}

TEST_F(NetCurlTransport, what_is_not_http_is_malformed) {
    for (const char* path : {"/two-lengths", "/listed-lengths", "/bad-chunk", "/no-http", "/switch"}) {
        const Exchange& exchange = fetch(request(server.url(path)));
        EXPECT_EQ(exchange.end, TransferEnd::malformed) << path << ": " << exchange.message;
        EXPECT_FALSE(exchange.message.empty()) << path;
    }
    EXPECT_EQ(fetch(request(server.url("/same-lengths"))).body, "one");
}

TEST_F(NetCurlTransport, bytes_behind_an_answer_never_answer_the_next_request) {
    const auto all_out = [&](int pieces) {
        const std::int64_t give_up = clock.now_ms() + 10'000;
        while (server.pieces < pieces && clock.now_ms() < give_up) poll(nullptr, 0, 5);
    };
    EXPECT_EQ(fetch(request(server.url("/twice"))).body, "{\"ok\":true}");
    EXPECT_EQ(fetch(request(server.url("/chunked"))).body, "piece0;piece1;piece2;");
    EXPECT_EQ(server.connections, 2);
    all_out(6);
    EXPECT_EQ(fetch(request(server.url("/more-later"))).body, "{\"ok\":true}");
    all_out(8);
    EXPECT_EQ(fetch(request(server.url("/chunked"))).body, "piece0;piece1;piece2;");
    EXPECT_EQ(server.connections, 3);
}

TEST_F(NetCurlTransport, a_silent_server_times_out_at_the_first_byte) {
    HttpRequest silent = request(server.url("/silent"));
    silent.first_byte_timeout_ms = 60;
    const Exchange& exchange = fetch(std::move(silent));
    EXPECT_EQ(exchange.end, TransferEnd::timeout_first_byte);
    EXPECT_NE(exchange.message.find("60 ms"), std::string::npos);
}

TEST_F(NetCurlTransport, a_stream_that_stalls_times_out_as_idle) {
    HttpRequest stall = request(server.url("/stall"));
    stall.idle_timeout_ms = 60;
    const Exchange& exchange = fetch(std::move(stall));
    EXPECT_EQ(exchange.end, TransferEnd::timeout_idle);
    EXPECT_EQ(exchange.body, "start");
}

TEST_F(NetCurlTransport, a_stream_that_drips_outlives_the_idle_time_out_but_not_the_total_one) {
    HttpRequest drip = request(server.url("/drip"));
    drip.idle_timeout_ms = 400;
    drip.total_timeout_ms = 800;
    const std::int64_t before = clock.now_ms();
    EXPECT_EQ(fetch(std::move(drip)).end, TransferEnd::timeout_total);
    EXPECT_GE(clock.now_ms() - before, 800);
    EXPECT_LT(pumps, 200);
}

TEST_F(NetCurlTransport, a_cancelled_exchange_is_never_heard_of_and_its_connection_closes) {
    transport.start(1, request(server.url("/silent")), 1 << 20);
    transport.start(2, request(server.url("/stall")), 1 << 20);
    while (exchanges[2].body.empty()) {
        pollfd fd{transport.fd(), POLLIN, 0};
        ASSERT_EQ(poll(&fd, 1, 5'000), 1);
        transport.pump(*this);
    }
    transport.cancel(1);
    transport.cancel(2);
    transport.cancel(3);
    last_id = 10;
    fetch(request(server.url("/ok")));
    EXPECT_EQ(exchanges[1].ends + exchanges[2].ends, 0);
    for (int i = 0; i < 500 && server.hang_ups < 2; ++i) usleep(5'000);
    EXPECT_EQ(server.hang_ups, 2);
}

TEST_F(NetCurlTransport, a_thousand_requests_run_at_once_in_the_time_of_one) {
    constexpr int kCount = 1'000;
    rlimit limit{};  // both ends of each connection are in this process; 1024 would be too few
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    const std::int64_t before = clock.now_ms();
    for (int i = 0; i < kCount; ++i) transport.start(++last_id, request(server.url("/later")), 1 << 20);
    run_until(kCount);
    for (const auto& [id, exchange] : exchanges) {
        ASSERT_EQ(exchange.end, TransferEnd::complete) << exchange.message;
        ASSERT_EQ(exchange.body, "late");
    }
    EXPECT_LT(clock.now_ms() - before, 15'000);  // one after another they would take five minutes
    EXPECT_EQ(server.connections, kCount);
}

TEST_F(NetCurlTransport,
       a_server_that_accepts_nothing_times_out_while_connecting_and_so_do_those_that_queue_behind) {
    const int full = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ASSERT_EQ(bind(full, reinterpret_cast<sockaddr*>(&address), length), 0);
    ASSERT_EQ(listen(full, 0), 0);
    getsockname(full, reinterpret_cast<sockaddr*>(&address), &length);
    const std::string url = "http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
    constexpr int kCount = 100;
    for (int i = 0; i < kCount; ++i) {
        HttpRequest one = request(url);
        one.connect_timeout_ms = 80;
        one.first_byte_timeout_ms = 80;
        transport.start(++last_id, std::move(one), 1 << 20);
    }
    run_until(kCount);
    close(full);
    int connecting = 0;
    for (const auto& [id, exchange] : exchanges) connecting += exchange.end == TransferEnd::timeout_connect;
    EXPECT_GE(connecting, kCount - 4);  // a backlog of 0 takes one or two
}

TEST_F(NetCurlTransport, transfers_that_wait_for_their_turn_can_be_cancelled) {
    for (int i = 0; i < 200; ++i) transport.start(++last_id, request(server.url("/ok")), 1 << 20);
    for (std::uint64_t id = 1; id <= 200; ++id) {
        if (id % 2 == 0) transport.cancel(id);
    }
    run_until(100);
    EXPECT_EQ(exchanges.size(), 100u);
    EXPECT_LE(server.requests, 200);
}

TEST_F(NetCurlTransport, a_turn_to_connect_is_waited_for_as_long_as_others_get_through) {
    Origin origin;
    Transfer transfer;
    transfer.origin = &origin;
    transfer.request.connect_timeout_ms = 100;
    transfer.request.total_timeout_ms = 10'000;
    transfer.started_at = 1'000;
    EXPECT_EQ(transfer.deadline(), 1'100);
    origin.connected_at = 1'090;
    EXPECT_EQ(transfer.deadline(), 1'190);
    transfer.stage = Transfer::Stage::connecting;
    transfer.stage_at = 1'150;
    EXPECT_EQ(transfer.deadline(), 1'250);
}

TEST_F(NetCurlTransport, the_descriptor_stays_quiet_when_nothing_happens) {
    fetch(request(server.url("/ok")));
    pollfd fd{transport.fd(), POLLIN, 0};
    int readable = 0;
    for (int i = 0; i < 5; ++i) {
        readable += poll(&fd, 1, 20);
        transport.pump(*this);
    }
    EXPECT_LE(readable, 2);
}

}  // namespace
}  // namespace mrprompt
