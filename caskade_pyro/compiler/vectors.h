// On Linux the C library has exponentials and the like for the processor's vectors, which GNU's compiler calls.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define FOR_VECTORS(name) \
    extern "C" __attribute__((simd("notinbranch"))) double name(double) noexcept; \
    extern "C" __attribute__((simd("notinbranch"))) float name##f(float) noexcept;
FOR_VECTORS(exp) FOR_VECTORS(log) FOR_VECTORS(sin) FOR_VECTORS(cos)
extern "C" __attribute__((simd("notinbranch"))) double pow(double, double) noexcept;
extern "C" __attribute__((simd("notinbranch"))) float powf(float, float) noexcept;
#if __GLIBC_PREREQ(2, 35)
FOR_VECTORS(expm1) FOR_VECTORS(log1p) FOR_VECTORS(tanh) FOR_VECTORS(erf) FOR_VECTORS(erfc) FOR_VECTORS(atan)
FOR_VECTORS(log2) FOR_VECTORS(log10) FOR_VECTORS(exp2) FOR_VECTORS(asinh) FOR_VECTORS(acosh) FOR_VECTORS(atanh)
FOR_VECTORS(tan) FOR_VECTORS(asin) FOR_VECTORS(acos) FOR_VECTORS(sinh) FOR_VECTORS(cosh)
#endif
#endif
