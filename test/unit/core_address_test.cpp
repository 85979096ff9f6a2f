// Which addresses are not public, and what a URL says of its host.
#include <gtest/gtest.h>

#include <string>

#include "core/address.hpp"

namespace mrprompt {
namespace {

std::string kind(const char* address) {
    const char* const words = special_kind_of_text(address);
    return words == nullptr ? "public" : words;
}

std::string host_kind(const char* url) {
    const char* const words = special_host(url);
    return words == nullptr ? "" : words;
}

TEST(Address, is_public_up_to_the_edges_of_the_special_ranges) {
    for (const char* address :
         {"1.1.1.1",         "8.8.8.8",          "1.0.0.0",         "9.255.255.255",     "11.0.0.0",
          "100.63.255.255",  "100.128.0.0",      "126.255.255.255", "128.0.0.0",         "168.63.129.15",
          "168.63.129.17",   "169.253.255.255",  "169.255.0.0",     "172.15.255.255",    "172.32.0.0",
          "191.255.255.255", "192.0.1.0",        "192.0.3.0",       "192.167.255.255",   "192.169.0.0",
          "198.17.255.255",  "198.20.0.0",       "198.51.99.255",   "198.51.101.0",      "203.0.112.255",
          "203.0.114.0",     "223.255.255.255",  "2600::1",         "2a00:1450:4001::1", "2001:200::",
          "2001:4860::8888", "2001:db7:ffff::1", "2001:db9::",      "3ffe::1",           "3fff:1000::"}) {
        EXPECT_EQ(kind(address), "public") << address;
    }
}

TEST(Address, is_named_by_its_kind_where_it_is_not) {
    const std::pair<const char*, const char*> rows[] = {
        {"0.0.0.0", "an unspecified address"},
        {"0.255.255.255", "an unspecified address"},
        {"10.0.0.0", "a private address"},
        {"10.255.255.255", "a private address"},
        {"100.64.0.0", "an address behind a carrier's NAT"},
        {"100.127.255.255", "an address behind a carrier's NAT"},
        {"127.0.0.1", "a loopback address"},
        {"127.255.255.255", "a loopback address"},
        {"168.63.129.16", "a cloud platform's own address"},
        {"169.254.0.0", "a link-local address"},
        {"169.254.169.254", "a link-local address"},
        {"172.16.0.0", "a private address"},
        {"172.31.255.255", "a private address"},
        {"192.0.0.192", "a reserved address"},
        {"192.0.2.1", "an address for documentation"},
        {"192.88.99.1", "a reserved address"},
        {"192.168.0.0", "a private address"},
        {"192.168.255.255", "a private address"},
        {"198.18.0.0", "an address for benchmarks"},
        {"198.19.255.255", "an address for benchmarks"},
        {"198.51.100.7", "an address for documentation"},
        {"203.0.113.255", "an address for documentation"},
        {"224.0.0.1", "a multicast address"},
        {"239.255.255.255", "a multicast address"},
        {"240.0.0.0", "a reserved address"},
        {"255.255.255.255", "a reserved address"},
        {"::", "an unspecified address"},
        {"::1", "a loopback address"},
        {"::2", "a reserved address"},
        {"::127.0.0.1", "a reserved address"},
        {"fc00::1", "a unique local address"},
        {"fd00:ec2::254", "a unique local address"},
        {"fe80::1", "a link-local address"},
        {"febf::1", "a link-local address"},
        {"fec0::1", "a private address"},
        {"ff02::1", "a multicast address"},
        {"2001::1", "a reserved address"},
        {"2001:2::1", "an address for benchmarks"},
        {"2001:1ff::1", "a reserved address"},
        {"2001:db8::1", "an address for documentation"},
        {"3fff::1", "an address for documentation"},
        {"3fff:fff::1", "an address for documentation"},
        {"100::1", "a reserved address"},
        {"4000::1", "a reserved address"},
        {"5f00::1", "a reserved address"},
        {"64:ff9b:1::a00:1", "a private address"},
    };
    for (const auto& [address, words] : rows) EXPECT_EQ(kind(address), words) << address;
}

TEST(Address, that_carries_another_one_is_judged_by_that) {
    EXPECT_EQ(kind("::ffff:127.0.0.1"), "a loopback address");
    EXPECT_EQ(kind("::ffff:10.1.2.3"), "a private address");
    EXPECT_EQ(kind("::ffff:8.8.8.8"), "public");
    EXPECT_EQ(kind("64:ff9b::a9fe:a9fe"), "a link-local address");
    EXPECT_EQ(kind("64:ff9b::808:808"), "public");
    EXPECT_EQ(kind("2002:7f00:1::1"), "a loopback address");
    EXPECT_EQ(kind("2002:808:808::1"), "public");
}

TEST(Address, that_cannot_be_read_is_not_public) {
    for (const char* text : {"", "localhost", "127.1", "1.1.1.1.1", "::g", "fe80::1%eth0"}) {
        EXPECT_EQ(kind(text), "no internet address") << text;
    }
}

TEST(HostOf, is_what_stands_between_scheme_and_port_or_path) {
    EXPECT_EQ(host_of("https://api.test/v1"), "api.test");
    EXPECT_EQ(host_of("http://api.test:8080"), "api.test");
    EXPECT_EQ(host_of("https://[2001:db8::1]:443/v1"), "2001:db8::1");
    EXPECT_EQ(host_of("https://api.test?x=//other"), "api.test");
    EXPECT_EQ(host_of("https://user:word@api.test:1/@x"), "api.test");
    EXPECT_EQ(host_of("socks5h://proxy.test:1080"), "proxy.test");
    EXPECT_EQ(host_of("https://["), "");
    EXPECT_EQ(host_of(""), "");
}

TEST(SpecialHost, is_an_address_that_is_written_out_or_this_machine_by_name) {
    EXPECT_EQ(host_kind("http://127.0.0.1:11434/v1"), "a loopback address");
    EXPECT_EQ(host_kind("https://[fe80::1]/v1"), "a link-local address");
    EXPECT_EQ(host_kind("http://localhost:8000"), "a name of the machine itself");
    EXPECT_EQ(host_kind("http://LocalHost./"), "a name of the machine itself");
    EXPECT_EQ(host_kind("http://llm.localhost/v1"), "a name of the machine itself");
    EXPECT_EQ(host_kind("https://8.8.8.8/v1"), "");
    EXPECT_EQ(host_kind("https://api.openai.com/v1"), "");
    EXPECT_EQ(host_kind("https://notlocalhost/v1"), "");
    EXPECT_EQ(host_kind("https://10.example.com"), "");
}

}  // namespace
}  // namespace mrprompt
