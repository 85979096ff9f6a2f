// The ceiling of the fetcher: the same requests by a bare libcurl multi loop on one thread, as JSON.
#include <curl/curl.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr const char* kUsage = "usage: curl-loop URL REQUESTS IN_FLIGHT BODY|@FILE\n";
constexpr int kPollMs = 1000;

struct EasyFree {
    void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiFree {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListFree {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Easy = std::unique_ptr<CURL, EasyFree>;
using Multi = std::unique_ptr<CURLM, MultiFree>;
using List = std::unique_ptr<curl_slist, ListFree>;

struct Counts {
    long done = 0, failed = 0;
    long long bytes = 0;
};

std::size_t count_bytes(char*, std::size_t size, std::size_t count, void* bytes) noexcept {
    *static_cast<long long*>(bytes) += static_cast<long long>(size * count);
    return size * count;
}

std::string body_of(const std::string& argument) {
    if (!argument.starts_with('@')) return argument;
    std::ifstream file(argument.substr(1), std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + argument.substr(1));
    return {std::istreambuf_iterator<char>(file), {}};
}

void raise_descriptor_limit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

long max_rss_kb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

double seconds(const timeval& time) {
    return time.tv_sec + time.tv_usec / 1e6;
}

Easy make_request(const char* url, const std::string& body, curl_slist* headers, Counts& counts) {
    Easy easy(curl_easy_init());
    if (!easy) throw std::bad_alloc();
    curl_easy_setopt(easy.get(), CURLOPT_URL, url);
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, body.c_str());
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, count_bytes);
    curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &counts.bytes);
    curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
    return easy;
}

// Keeps as many handles going as there are; each starts anew until `requests` are done.
Counts run(const char* url, long requests, long in_flight, const std::string& body) {
    const List headers(curl_slist_append(curl_slist_append(nullptr, "content-type: application/json"),
                                         "authorization: Bearer sk-test-bench"));
    Counts counts;
    std::vector<Easy> easies;  // outlives the multi handle they are in
    const Multi multi(curl_multi_init());
    if (!multi) throw std::bad_alloc();
    curl_multi_setopt(multi.get(), CURLMOPT_MAXCONNECTS, in_flight);
    long started = 0;
    for (; started < std::min(requests, in_flight); ++started) {
        easies.push_back(make_request(url, body, headers.get(), counts));
        curl_multi_add_handle(multi.get(), easies.back().get());
    }
    while (counts.done < requests) {
        int running = 0, left = 0;
        curl_multi_perform(multi.get(), &running);
        while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL* easy = message->easy_handle;
            long status = 0;
            curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
            if (message->data.result != CURLE_OK || status != 200) ++counts.failed;
            ++counts.done;
            curl_multi_remove_handle(multi.get(), easy);
            if (started < requests) {
                curl_multi_add_handle(multi.get(), easy);
                ++started;
            }
        }
        if (counts.done < requests) curl_multi_poll(multi.get(), nullptr, 0, kPollMs, nullptr);
    }
    for (const Easy& easy : easies) curl_multi_remove_handle(multi.get(), easy.get());
    return counts;
}

void bench(char** argv) {
    const long requests = std::stol(argv[2]), in_flight = std::stol(argv[3]);
    if (requests < 1 || in_flight < 1) throw std::invalid_argument(kUsage);
    const std::string body = body_of(argv[4]);
    raise_descriptor_limit();
    curl_global_init(CURL_GLOBAL_ALL);
    const long rss_before = max_rss_kb();
    const auto begin = std::chrono::steady_clock::now();
    const Counts counts = run(argv[1], requests, in_flight, body);
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf(
        "{\"requests\":%ld,\"in_flight\":%ld,\"failed\":%ld,\"bytes\":%lld,\"seconds\":%.3f,"
        "\"per_second\":%.0f,\"cpu_seconds\":%.3f,\"kb_per_request_in_flight\":%.1f}\n",
        requests, in_flight, counts.failed, counts.bytes, wall, requests / wall,
        seconds(usage.ru_utime) + seconds(usage.ru_stime),
        static_cast<double>(max_rss_kb() - rss_before) / std::min(requests, in_flight));
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 5) throw std::invalid_argument(kUsage);
        bench(argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "curl-loop: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
