// SPDX-License-Identifier: Apache-2.0
#include "executor/push_worker/lease.hpp"

#include "executor/http/retry.hpp"

#include <algorithm>

namespace slipway::push_worker {

namespace {

using engine_api::IssuerSpec;
using engine_api::LeaseNote;
using std::chrono::seconds;

/// Longest life of what can be revoked: bounds what a machine that never comes back leaves. Issuers
/// that count in days (Harbor's robots, GitLab's deploy tokens) fit.
constexpr seconds kRevocableCeiling{std::chrono::hours{48}};
constexpr seconds kSkew{60}; ///< what the issuer's clock may be ahead
/// So long a mint whose answer was lost may still appear at the issuer.
constexpr seconds kSettles{300};
constexpr seconds kPatience{20}; ///< with an issuer that does not answer
constexpr int kMints = 3;        ///< tries of one mint
constexpr int kRenewals = 8;     ///< logins of one push

http::RetryPolicy patience() {
  http::RetryPolicy policy;
  policy.max_attempts = 4;
  policy.cap = seconds{4};
  policy.retry_after_cap = seconds{4};
  return policy;
}

/// Another try can help: the issuer did not answer as it should.
bool may_pass(const Error& error) {
  return error.kind == ErrorKind::unavailable || error.kind == ErrorKind::timed_out ||
         error.kind == ErrorKind::bad_input;
}

engine_api::IssuerFacts facts_of(const credentials::IssuerTraits& traits) {
  return {traits.can_revoke, traits.can_list, traits.bypassable, traits.standing};
}

std::string end_of(WallTime time) {
  return time == WallTime::max() ? "" : rfc3339(time);
}

/// One provider with what it needs to live.
class Desk {
public:
  static Result<std::unique_ptr<Desk>>
  open(const IssuerSpec& spec, const std::map<std::string, Secret>& job_secrets, World& world) {
    std::unique_ptr<Desk> desk{new Desk{spec, job_secrets, world}};
    auto made = world.make_provider(spec, desk->context_);
    if (!made) return std::move(made).error();
    desk->provider_ = *std::move(made);
    desk->traits = desk->provider_->traits();
    return desk;
  }

  Result<credentials::Minted> mint(const credentials::MintFor& wanted) {
    return provider_->mint(wanted);
  }

  bool may_be_out() const { return provider_->may_be_out(); }

  /// Begins no new try after kPatience.
  Status revoke(const credentials::Lease& lease, const credentials::Minted* live) {
    return patiently([&] { return provider_->revoke(lease, live); });
  }

  /// Ends whatever stands at the issuer under this name; says how many those were.
  Result<std::size_t> revoke_all_of(const std::string& name, const std::string& repository) {
    std::optional<std::vector<credentials::Lease>> found;
    auto listed = patiently([&]() -> Status {
      auto answer = provider_->outstanding(name, repository, seconds{0});
      if (!answer) return std::move(answer).error();
      found = *std::move(answer);
      return {};
    });
    if (!listed) return std::move(listed).error();
    std::optional<Error> failed;
    for (const auto& lease : *found) {
      if (auto revoked = revoke(lease, nullptr); !revoked && !failed)
        failed = std::move(revoked).error();
    }
    if (failed) return *std::move(failed);
    return found->size();
  }

  /// How long what this issuer mints can live, for a mint whose answer never came.
  seconds longest_life(seconds ceiling) const {
    return std::max({ceiling, spec_.duration("max_lifetime"), traits.built_in_ceiling,
                     traits.can_revoke ? kRevocableCeiling : seconds{0}});
  }

  credentials::IssuerTraits traits;

private:
  Desk(const IssuerSpec& spec, const std::map<std::string, Secret>& job_secrets, World& world)
      : spec_{spec}, world_{world}, transport_{world.to_issuer(spec)}, context_{*transport_,
                                                                                world.clock,
                                                                                world.runner,
                                                                                job_secrets} {}

  Status patiently(const std::function<Status()>& call) {
    const auto policy = patience();
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (int attempt = 1;; ++attempt) {
      auto done = call();
      if (done || !may_pass(done.error())) return done;
      const auto delay = http::delay_before_retry(policy, attempt, "", world_.pacing.random());
      if (!delay || std::chrono::steady_clock::now() >= until) return done;
      world_.wait(*delay);
    }
  }

  const IssuerSpec& spec_;
  World& world_;
  std::unique_ptr<http::Transport> transport_;
  credentials::ProviderContext context_;
  std::unique_ptr<credentials::CredentialProvider> provider_;
};

/// Why this mint may not be used; nullopt where it may.
std::optional<Error> above_ceiling(const credentials::Minted& minted,
                                   const credentials::IssuerTraits& traits, const IssuerSpec& spec,
                                   seconds ceiling, WallTime now) {
  if (traits.standing) return std::nullopt; // a rule named it; its reason is in the audit log
  const std::string entry = "[[credential]] \"" + spec.name + "\"";
  if (minted.expires_at <= now) {
    return Error{ErrorKind::unavailable,
                 entry + " minted a credential that is already over",
                 "check this machine's and the issuer's clocks",
                 {}};
  }
  const auto own = spec.duration("max_lifetime");
  seconds allowed = own > seconds{0} ? own : ceiling;
  if (own == seconds{0} && minted.scoped_to_repository)
    allowed = std::max(allowed, traits.built_in_ceiling);
  if (traits.can_revoke) allowed = std::max(allowed, kRevocableCeiling);
  if (minted.expires_at != WallTime::max() && minted.expires_at - now <= allowed + kSkew)
    return std::nullopt;
  const std::string life =
      minted.expires_at == WallTime::max()
          ? "without an end"
          : "that live " + std::to_string((minted.expires_at - now).count()) + " s";
  return Error{ErrorKind::denied,
               entry + " mints credentials " + life + "; at most " +
                   std::to_string(allowed.count()) + " s are allowed for one" +
                   (traits.can_revoke ? "" : " that cannot be revoked"),
               "shorten their life at the issuer, or set max_lifetime in the " + entry + " entry",
               {}};
}

/// One order: mints, at times again, and ends it all.
class Login {
public:
  Login(engine_api::LeaseOrder order, Purpose purpose, seconds ceiling, World& world)
      : order_{std::move(order)}, purpose_{std::move(purpose)}, ceiling_{ceiling}, world_{world} {}

  Status mint() {
    auto desk = Desk::open(order_.issuer, order_.job_secrets, world_);
    if (!desk) {
      LeaseNote nothing;
      nothing.state = LeaseNote::State::ended;
      world_.note(nothing);
      return std::move(desk).error();
    }
    desk_ = *std::move(desk);
    credentials::MintFor wanted;
    wanted.registry = registry_host;
    wanted.repository = purpose_.repository;
    wanted.actions = purpose_.actions;
    wanted.digest = purpose_.digest;
    wanted.job = order_.job;
    wanted.lease_name = order_.name;
    wanted.ceiling = ceiling_;
    const auto own = order_.issuer.duration("max_lifetime");
    if (own > seconds{0}) wanted.ceiling = std::min(own, ceiling_);
    auto minted = mint_patiently(wanted);
    if (!minted) {
      end();
      return std::move(minted).error();
    }
    minted_ = *std::move(minted);
    world_.note({LeaseNote::State::minted, minted_->lease_id, end_of(minted_->expires_at), "",
                 facts_of(desk_->traits)});
    if (auto refused =
            above_ceiling(*minted_, desk_->traits, order_.issuer, ceiling_, world_.clock.now())) {
      end();
      return *std::move(refused);
    }
    return {};
  }

  bool over() const {
    return minted_ && minted_->expires_at != WallTime::max() &&
           world_.clock.now() + seconds{10} >= minted_->expires_at;
  }

  void fill(engine_api::RegistryAccess& access) const {
    access.username = minted_->username;
    access.password = minted_->password.clone();
    access.bearer = minted_->bearer;
    access.login_from = "[[credential]] \"" + order_.issuer.name + "\"";
    // Short-lived as it is, it may be shown to a registry that has no token server.
    if (!desk_->traits.standing) access.basic_auth = true;
  }

  /// Revokes, and looks for mints whose answers were lost. With `again`, for a login
  /// that is over, true where it may be minted once more.
  bool end(bool again = false) {
    LeaseNote note;
    if (minted_ && !desk_->traits.standing) {
      const credentials::Lease lease{order_.name, minted_->lease_id, purpose_.repository};
      if (desk_->traits.can_revoke) {
        if (auto revoked = desk_->revoke(lease, &*minted_); !revoked)
          note.what = revoked.error().text();
      } else if (!again) {
        note.what = "this issuer's credentials cannot be revoked";
      }
      if (!note.what.empty()) {
        note.id = minted_->lease_id;
        note.expires_at = end_of(minted_->expires_at);
      }
    }
    minted_.reset();
    look_for_lost();
    if (lost_ > 0) {
      note.what =
          note.what.empty() ? "the issuer's answer was lost: it may have minted" : note.what;
      const auto latest = rfc3339(world_.clock.now() + desk_->longest_life(ceiling_));
      if (note.id.empty() || (!note.expires_at.empty() && note.expires_at < latest))
        note.expires_at = latest;
    }
    note.state = note.what.empty() ? LeaseNote::State::ended : LeaseNote::State::left;
    note.facts = facts_of(desk_->traits);
    desk_.reset();
    if (again && note.state == LeaseNote::State::ended && world_.may_renew()) return true;
    world_.note(note);
    return false;
  }

  std::string registry_host;

private:
  Result<credentials::Minted> mint_patiently(const credentials::MintFor& wanted) {
    const auto policy = patience();
    for (int attempt = 1;; ++attempt) {
      if (world_.pacing.cancelled()) return Error{ErrorKind::timed_out, "cancelled", "", {}};
      auto minted = desk_->mint(wanted);
      if (minted) return minted;
      if (!may_pass(minted.error())) return minted;
      if (desk_->may_be_out()) ++lost_;
      look_for_lost(); // a second one of the same name would be mistaken for the first
      const auto delay = http::delay_before_retry(policy, attempt, "", world_.pacing.random());
      if (minted.error().kind != ErrorKind::unavailable || attempt >= kMints || !delay)
        return minted;
      world_.wait(*delay);
    }
  }

  void look_for_lost() {
    if (lost_ == 0 || !desk_->traits.can_list) return;
    if (auto found = desk_->revoke_all_of(order_.name, purpose_.repository))
      lost_ -= std::min(lost_, *found);
  }

  engine_api::LeaseOrder order_;
  Purpose purpose_;
  seconds ceiling_;
  World& world_;
  std::unique_ptr<Desk> desk_;
  std::optional<credentials::Minted> minted_;
  std::size_t lost_ = 0; ///< mints that got no answer and were not found since
};

/// All of `access` but the order and the secret.
engine_api::RegistryAccess without_login(const engine_api::RegistryAccess& access) {
  engine_api::RegistryAccess bare;
  bare.host = access.host;
  bare.ca_file = access.ca_file;
  bare.plain_http = access.plain_http;
  bare.realm_hosts = access.realm_hosts;
  bare.max_token_seconds = access.max_token_seconds;
  bare.basic_auth = access.basic_auth;
  return bare;
}

Result<LeaseNote> end_left_over(const engine_api::IssuerRequest& request, Desk& desk,
                                World& world) {
  LeaseNote note;
  note.id = request.lease_id;
  note.facts = facts_of(desk.traits);
  note.state = LeaseNote::State::ended;
  if (desk.traits.standing) return note;
  WallTime since;
  if (!parse_rfc3339(request.since, since))
    return Error{ErrorKind::bad_input, "the lease's date cannot be read", "", {}};
  const auto left = [&](std::string why) {
    note.state = LeaseNote::State::left;
    note.what = std::move(why);
    // Where the id is known so is the end: the journal has it.
    if (note.id.empty())
      note.expires_at = rfc3339(since + kSettles + desk.longest_life(seconds{900}));
    return note;
  };
  if (!request.lease_id.empty() && desk.traits.can_revoke) {
    auto revoked = desk.revoke({request.lease_name, request.lease_id, request.repository}, nullptr);
    if (!revoked) return left(revoked.error().text());
  }
  if (desk.traits.can_list) {
    auto found = desk.revoke_all_of(request.lease_name, request.repository);
    if (!found) return left(found.error().text());
    if (request.lease_id.empty() && *found == 0 && world.clock.now() < since + kSettles)
      return left("the issuer lists nothing under this name yet");
    return note;
  }
  if (request.lease_id.empty())
    return left("the issuer's answer was lost, and it cannot list what it minted");
  if (!desk.traits.can_revoke) return left("this issuer's credentials cannot be revoked");
  return note;
}

} // namespace

Result<engine_api::WorkerAnswer> with_login(engine_api::RegistryAccess access, Purpose purpose,
                                            World& world, const WithLogin& work) {
  if (!access.lease) return work(std::move(access));
  const std::string where = access.host + "/" + purpose.repository;
  const auto may_mint_again = purpose.may_mint_again;
  Login login{*std::move(access.lease), std::move(purpose),
              std::chrono::seconds{access.max_token_seconds}, world};
  login.registry_host = access.host;
  for (int round = 1;; ++round) {
    if (auto minted = login.mint(); !minted)
      return std::move(minted).error().in("minting a credential for " + where);
    auto filled = without_login(access);
    login.fill(filled);
    auto answer = work(std::move(filled));
    const bool again = !answer && answer.error().kind == ErrorKind::denied && login.over() &&
                       round < kRenewals && (!may_mint_again || may_mint_again());
    if (!login.end(again)) return answer;
    world.progress("the credential ended before the request; minting another");
  }
}

Result<engine_api::WorkerAnswer> ask_issuer(const engine_api::IssuerRequest& request,
                                            World& world) {
  const std::map<std::string, Secret> no_secrets;
  auto desk = Desk::open(request.issuer, no_secrets, world);
  if (!desk) return std::move(desk).error();
  engine_api::WorkerAnswer answer;
  answer.ok = true;
  answer.facts = facts_of((*desk)->traits);
  if (request.action == engine_api::IssuerRequest::Action::revoke) {
    auto note = end_left_over(request, **desk, world);
    if (!note) return std::move(note).error();
    world.note(*note);
  }
  return answer;
}

} // namespace slipway::push_worker
