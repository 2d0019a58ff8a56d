// Whether this processor has the vector instructions that the compiler was told to use: without them a kernel would end the process.
extern "C" int refstep_can_run() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#if defined(__SSE4_2__)
    if (!__builtin_cpu_supports("sse4.2")) return 0;
#endif
#if defined(__AVX2__)
    if (!__builtin_cpu_supports("avx2")) return 0;
#endif
#if defined(__FMA__)
    if (!__builtin_cpu_supports("fma")) return 0;
#endif
#if defined(__BMI2__)
    if (!__builtin_cpu_supports("bmi2")) return 0;
#endif
#if defined(__AVX512F__)
    if (!__builtin_cpu_supports("avx512f")) return 0;
#endif
#if defined(__AVX512BW__)
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) return 0;
#endif
#if defined(__AVX512VNNI__)
    if (!__builtin_cpu_supports("avx512vnni")) return 0;
#endif
#if defined(__AVXVNNI__)
    if (!__builtin_cpu_supports("avxvnni")) return 0;
#endif
#endif
    return 1;
}
