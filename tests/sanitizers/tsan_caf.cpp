// Tells ThreadSanitizer what it cannot see in Debian's CAF, which is not instrumented: what is done before a message
// is sent happens before its handler, and one handler of an actor before the next. Linked into programs of the tsan
// build only, where these functions take the place of CAF's own and pass on to them. CAF 0.17.6, x86-64 names.
#include <dlfcn.h>

#include <caf/blocking_actor.hpp>
#include <caf/detail/thread_safe_actor_clock.hpp>
#include <caf/scheduled_actor.hpp>

extern "C" {
void __tsan_acquire(void*);
void __tsan_release(void*);
}

namespace {

template <class Function>
Function original(const char* mangled) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, mangled));
}

} // namespace

namespace caf {

void scheduled_actor::enqueue(mailbox_element_ptr what, execution_unit* where) {
  static auto next = original<void (*)(scheduled_actor*, mailbox_element_ptr, execution_unit*)>(
      "_ZN3caf15scheduled_actor7enqueueESt10unique_ptrINS_15mailbox_elementENS_6detail8disposerEEPNS_14execution_"
      "unitE");
  __tsan_release(this);
  next(this, std::move(what), where);
}

invoke_message_result scheduled_actor::consume(mailbox_element& what) {
  static auto next = original<invoke_message_result (*)(scheduled_actor*, mailbox_element&)>(
      "_ZN3caf15scheduled_actor7consumeERNS_15mailbox_elementE");
  __tsan_acquire(this);
  auto result = next(this, what);
  __tsan_release(this); // the next message may be another thread's
  return result;
}

bool scheduled_actor::activate(execution_unit* where) { // initialises the actor at its first turn
  static auto next =
      original<bool (*)(scheduled_actor*, execution_unit*)>("_ZN3caf15scheduled_actor8activateEPNS_14execution_unitE");
  __tsan_acquire(this);
  auto result = next(this, where);
  __tsan_release(this);
  return result;
}

void blocking_actor::enqueue(mailbox_element_ptr what, execution_unit* where) {
  static auto next = original<void (*)(blocking_actor*, mailbox_element_ptr, execution_unit*)>(
      "_ZN3caf14blocking_actor7enqueueESt10unique_ptrINS_15mailbox_elementENS_6detail8disposerEEPNS_14execution_unitE");
  __tsan_release(this);
  next(this, std::move(what), where);
}

void blocking_actor::await_data() {
  static auto next = original<void (*)(blocking_actor*)>("_ZN3caf14blocking_actor10await_dataEv");
  next(this);
  __tsan_acquire(this);
}

bool blocking_actor::await_data(timeout_type until) {
  static auto next = original<bool (*)(blocking_actor*, timeout_type)>(
      "_ZN3caf14blocking_actor10await_dataENSt6chrono10time_pointINS1_3_V212system_clockENS1_"
      "8durationIlSt5ratioILl1ELl1000"
      "000000EEEEEE");
  auto result = next(this, until);
  __tsan_acquire(this);
  return result;
}

// A delayed message: handed from the clock's thread, taken in above.
void detail::thread_safe_actor_clock::schedule_message(time_point when, strong_actor_ptr to, mailbox_element_ptr what) {
  static auto next = original<void (*)(thread_safe_actor_clock*, time_point, strong_actor_ptr, mailbox_element_ptr)>(
      "_ZN3caf6detail23thread_safe_actor_clock16schedule_messageENSt6chrono10time_pointINS2_3_V212steady_clockENS2_8"
      "durationIlSt5ratioILl1ELl1000000000EEEEEENS_13intrusive_ptrINS_19actor_control_blockEEESt10unique_ptrINS_15"
      "mailbox_elementENS0_8disposerEE");
  if (auto receiver = dynamic_cast<scheduled_actor*>(to->get()))
    __tsan_release(receiver);
  next(this, when, std::move(to), std::move(what));
}

} // namespace caf
