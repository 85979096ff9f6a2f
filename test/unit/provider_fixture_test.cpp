// Every transcript in fixtures/ decodes to what stands beside it, in whatever pieces it arrives.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "provider_fixture.hpp"

namespace mrprompt {
namespace {

struct Transcript {
    std::string name;
    std::string path;
    std::string expected_path;
};

std::vector<Transcript> transcripts() {
    std::vector<Transcript> found;
    for (const char* protocol : {"openai", "anthropic"}) {
        for (const auto& entry : std::filesystem::directory_iterator(std::string(FIXTURES "/") + protocol)) {
            const std::filesystem::path path = entry.path();
            if (path.stem().extension() == ".expected") continue;
            found.push_back({std::string(protocol) + "_" + path.stem().string(), path.string(),
                             std::filesystem::path(path).replace_extension(".expected.json").string()});
        }
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return found;
}

class Fixture : public testing::TestWithParam<Transcript> {
protected:
    void SetUp() override {
        const Result<Json> expected = parse_json(read_text(GetParam().expected_path));
        ASSERT_TRUE(expected) << GetParam().expected_path;
        expected_ = *expected;
        bytes_ = read_text(GetParam().path);
        protocol_ = find_protocol(GetParam().name.substr(0, GetParam().name.find('_')));
        ASSERT_NE(protocol_, nullptr);
    }

    // As text: nlohmann's == takes 1 and 1.0 for the same, and says less when it fails.
    std::string decoded(const std::vector<std::string_view>& pieces) const {
        return dump_json(decode(*protocol_, expected_["stream"], expected_["status"], pieces));
    }
    std::string expected() const {
        return dump_json(Json{{"completion", expected_["completion"]}, {"delta", expected_["delta"]}});
    }

    Json expected_;
    std::string bytes_;
    const Protocol* protocol_ = nullptr;
};

TEST_P(Fixture, decodes_whole) {
    EXPECT_EQ(decoded({bytes_}), expected());
}

TEST_P(Fixture, decodes_byte_by_byte) {
    std::vector<std::string_view> pieces;
    for (std::size_t i = 0; i < bytes_.size(); ++i) pieces.push_back(std::string_view(bytes_).substr(i, 1));
    EXPECT_EQ(decoded(pieces), expected());
}

TEST_P(Fixture, decodes_split_at_every_offset) {
    const std::string whole = expected();
    const std::string_view bytes = bytes_;
    for (std::size_t i = 1; i < bytes.size(); ++i) {
        ASSERT_EQ(decoded({bytes.substr(0, i), bytes.substr(i)}), whole) << "split at " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Transcripts, Fixture, testing::ValuesIn(transcripts()),
                         [](const auto& info) { return info.param.name; });

TEST(Fixtures, are_all_there) {
    EXPECT_GE(transcripts().size(), 80u);
}

}  // namespace
}  // namespace mrprompt
