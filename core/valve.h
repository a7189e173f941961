#pragma once

// Backpressure within one loop: whoever takes content closes the valve while it has more than it
// can pass on, and whoever makes content stops then. A closed valve is a request, not a wall: what
// is on its way already still arrives. Loop thread only; the taker owns it.

#include <algorithm>
#include <vector>

namespace holdfast::core {

class Valve {
 public:
  class Listener {
   public:
    // The valve was opened or closed. May add and remove listeners.
    virtual void OnValve(bool open) = 0;

   protected:
    ~Listener() = default;
  };

  Valve() = default;
  Valve(const Valve&) = delete;
  Valve& operator=(const Valve&) = delete;

  bool open() const { return open_; }
  void Open() { Turn(true); }
  void Close() { Turn(false); }

  // A listener is known by its address, and must be removed before it ends.
  void Add(Listener& listener) { listeners_.push_back(&listener); }
  void Remove(Listener& listener) { std::erase(listeners_, &listener); }

 private:
  void Turn(bool open) {
    if (open_ == open) return;
    open_ = open;
    const std::vector<Listener*> told = listeners_;
    for (Listener* listener : told) {
      if (std::ranges::find(listeners_, listener) != listeners_.end()) listener->OnValve(open_);
    }
  }

  bool open_ = true;
  std::vector<Listener*> listeners_;
};

}  // namespace holdfast::core
