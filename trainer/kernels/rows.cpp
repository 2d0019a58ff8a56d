// Runs a step as trainer/compiler/plan.py lays it out: groups of operations over blocks of rows, on a few threads.
//
// A group has `rows` rows that do not depend on each other. Each thread takes blocks of rows and runs all operations of the group on
// one block before the next, so that what passes from one operation to the next stays in its scratch memory, in cache. Rows are
// the only unit of parallelism, and no result depends on how they are divided: every operation computes each row on its own.
//
// Programs are words (int64). trainer/compiler/plan.py writes them and says what each operation means.
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <thread>
#include <unistd.h>

#include "operations.hpp"
#include "stage.hpp"

namespace {

void (*const OPERATIONS[])(Words&, const Block&) = {run_map, run_stage, run_reduce, run_dot, run_gather, run_scatter, run_store, run_pack};

// Subnormal numbers count, whatever the caller's thread is set to.
struct ExactFloats {
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    ExactFloats() { _mm_setcsr(0x1F80); }
    ~ExactFloats() { _mm_setcsr(before); }
#endif
};

struct Group {
    int64_t rows, block, first_word, operations;
};

struct Job {
    const Word* words;
    char* const* tensors;
    const Functions* call;
    Group group;
    std::atomic<int64_t>* spent;  // nanoseconds of each operation over all threads, or null
    std::atomic<int64_t> next{0};
};

// The time this thread has been running: other processes do not count.
int64_t now() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}

void work(Job& job, char* scratch) {
    const ExactFloats exact;
    const Group& group = job.group;
    for (;;) {
        const int64_t first = job.next.fetch_add(1) * group.block;
        if (first >= group.rows) return;
        const Block block{job.tensors, scratch, first, std::min(group.block, group.rows - first), job.call};
        Words words{job.words + group.first_word};
        for (int64_t i = 0; i < group.operations; i++) {
            const int64_t begun = job.spent ? now() : 0;
            OPERATIONS[words.next()](words, block);
            if (job.spent) job.spent[i] += now() - begun;
        }
    }
}

// Threads that wait for groups. One pool serves the whole process; steps of several executors take turns.
class Pool {
  public:
    void run(Job& job, int threads, size_t scratch_bytes) {
        const int helpers = (int)std::min<int64_t>(threads, (job.group.rows + job.group.block - 1) / job.group.block) - 1;
        grow(helpers, scratch_bytes);
        if (helpers > 0) {
            {
                std::lock_guard<std::mutex> lock(mutex);
                current = &job;
                wanted = left = helpers;
                generation++;
            }
            wake.notify_all();
        }
        work(job, scratch[0]);
        if (helpers > 0) {
            for (int spin = 0; spin < SPINS && left.load() != 0; spin++) pause();
            std::unique_lock<std::mutex> lock(mutex);
            done.wait(lock, [&] { return left.load() == 0; });
        }
    }

    std::mutex turn;
    const pid_t process = getpid();

  private:
    static constexpr int SPINS = 2000;  // some 30 microseconds: what sleeping and waking costs

    static void pause() {
#if defined(__x86_64__)
        _mm_pause();
#endif
    }

    void grow(int helpers, size_t bytes) {
        std::lock_guard<std::mutex> lock(mutex);
        if (bytes > scratch_bytes || (int)scratch.size() < helpers + 1) {
            for (char* old : scratch) std::free(old);
            scratch_bytes = std::max(bytes, scratch_bytes);
            scratch.assign(std::max<size_t>(scratch.size(), helpers + 1), nullptr);
            for (char*& memory : scratch) memory = (char*)std::aligned_alloc(64, (scratch_bytes + 127) / 64 * 64);
        }
        for (; started < helpers; started++) std::thread(&Pool::serve, this, started, generation.load()).detach();
    }

    void serve(int number, int64_t seen) {
        for (;;) {
            Job* job;
            char* memory;
            for (int spin = 0; spin < SPINS && generation.load() == seen; spin++) pause();  // the next group is often near
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [&] { return generation.load() != seen; });
                seen = generation.load();
                if (number >= wanted) continue;
                job = current;
                memory = scratch[number + 1];
            }
            work(*job, memory);
            if (left.fetch_sub(1) == 1) {
                std::lock_guard<std::mutex> lock(mutex);
                done.notify_one();
            }
        }
    }

    std::mutex mutex;
    std::condition_variable wake, done;
    std::vector<char*> scratch;
    size_t scratch_bytes = 0;
    Job* current = nullptr;
    int wanted = 0, started = 0;
    std::atomic<int> left{0};
    std::atomic<int64_t> generation{0};
};

// One pool for each process: after a fork the threads are gone. It outlives those that wait in it.
Pool& pool() {
    static std::atomic<Pool*> it{nullptr};
    Pool* found = it.load();
    while (!found || found->process != getpid()) {
        Pool* mine = new Pool;
        if (it.compare_exchange_strong(found, mine)) return *mine;
        delete mine;  // another thread was first
    }
    return *found;
}

}  // namespace

// Runs `groups` (four words each: rows, rows a block, first word, operations) of a step. `spent`, unless it is null, has one
// counter for each operation, to which the nanoseconds are added that threads spend in it.
extern "C" void run_groups(const Word* groups, int64_t count, const Word* words, char* const* tensors, int64_t scratch_bytes, int threads,
                           const Functions* call, int64_t* spent) {
    static_assert(sizeof(std::atomic<int64_t>) == sizeof(int64_t), "counters are plain words");
    std::lock_guard<std::mutex> turn(pool().turn);
    for (int64_t g = 0; g < count; g++) {
        Job job;
        job.words = words;
        job.tensors = tensors;
        job.call = call;
        job.group = Group{groups[4 * g], groups[4 * g + 1], groups[4 * g + 2], groups[4 * g + 3]};
        job.spent = (std::atomic<int64_t>*)spent;
        pool().run(job, threads, scratch_bytes);
        if (spent) spent += job.group.operations;
    }
}
