// SPDX-License-Identifier: Apache-2.0
#include "executor/http/curl_transport.hpp"

#include <gtest/gtest.h>

namespace slipway::http {
namespace {

TEST(CurlTransport, AProxyThatCannotBeUsedIsNotRepeatedWithItsPassword) {
  for (const auto* proxy : {"ftp://ci:hunter2@proxy.invalid:1", "http://ci:hunter2@pro xy:1",
                            "http://ci:hunter2@proxy.invalid:port", "ci:hunter2@proxy.invalid:1",
                            "proxy"}) { // what it is called instead has this in it
    CurlOptions options;
    options.proxy = proxy;
    CurlTransport transport{std::move(options)};
    Request request;
    request.method = "GET";
    request.url = *Url::parse("https://registry.invalid/v2/");

    const auto answer = transport.send(request);

    ASSERT_FALSE(answer) << proxy;
    EXPECT_EQ(answer.error().text().find("hunter2"), std::string::npos) << answer.error().text();
    EXPECT_EQ(answer.error().hint.find("hunter2"), std::string::npos) << answer.error().hint;
  }
}

} // namespace
} // namespace slipway::http
