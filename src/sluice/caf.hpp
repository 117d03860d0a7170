/// The one place that knows CAF 0.17 (Debian, Ubuntu) from CAF 0.18 (ConanCenter).
/// Everything else in sluice is written against what the two have in common plus this header.
#pragma once

#include <chrono>
#include <string>
#include <type_traits>
#include <utility>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/config.hpp>
#include <caf/typed_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#if CAF_VERSION >= 1800
#  include <caf/init_global_meta_objects.hpp>
#  include <caf/string_view.hpp>
#  include <caf/type_id.hpp>
#else
#  include <caf/atom.hpp>
#  include <caf/meta/type_name.hpp>
#  include <caf/type_id.hpp>
#endif

namespace sluice {

/// One member of a message, named for 0.18's inspectors; 0.17 ignores the name.
template <class T>
struct named_field {
  const char* name;
  T& value;
};
template <class T>
named_field<T> field(const char* name, T& value) {
  return {name, value};
}

/// Inspects `x` under both versions: `return inspect_fields(f, x, "delivery", field("topic", x.topic), …);`
template <class Inspector, class T, class... Ts>
auto inspect_fields(Inspector& f, [[maybe_unused]] T& x, const char* type_name, named_field<Ts>... fields) {
#if CAF_VERSION >= 1800
  static_cast<void>(type_name); // 0.18 takes it from the type-ID block
  auto view = [](const char* name) { return caf::string_view{name, std::char_traits<char>::length(name)}; };
  return f.object(x).fields(f.field(view(fields.name), fields.value)...);
#else
  return f(caf::meta::type_name(type_name), fields.value...);
#endif
}

/// The class behind `Handle`'s actors with state `State`: for tests that look into an actor.
template <class Handle, class State>
using stateful = std::remove_pointer_t<typename Handle::template stateful_pointer<State>>;

/// Actor-system configuration with sluice's scheduler settings: policy `sharing` (the default `stealing` costs 10-100
/// times as much at 50,000 actors) and `threads` worker threads (0 = one a core).
/// `TypeIdBlock` is a block made with CAF_BEGIN_TYPE_ID_BLOCK, e.g. `caf::id_block::sluice`.
template <class TypeIdBlock>
class actor_config : public caf::actor_system_config {
public:
  explicit actor_config(std::size_t threads = 0, [[maybe_unused]] bool testing = false) {
#if CAF_VERSION >= 1800
    // Once: the table is the process's, and other actor systems may be reading it.
    static const bool registered =
        (caf::init_global_meta_objects<TypeIdBlock>(), caf::core::init_global_meta_objects(), true);
    static_cast<void>(registered);
    set("caf.scheduler.policy", testing ? "testing" : "sharing");
    if (threads > 0)
      set("caf.scheduler.max-threads", threads);
    set("caf.logger.console.verbosity", "quiet");
#else
    this->template add_message_types<TypeIdBlock>();
    set("scheduler.policy", testing ? caf::atom("testing") : caf::atom("sharing"));
    if (threads > 0)
      set("scheduler.max-threads", threads);
    set("logger.verbosity", caf::atom("quiet"));
#endif
  }
};

} // namespace sluice
