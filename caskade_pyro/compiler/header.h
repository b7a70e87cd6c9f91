#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

// Whether whole numbers were divided by zero, where torch raises.
static thread_local int64_t divided_by_zero = 0;

// Of what does not fit into a whole number C++ says nothing; the processor gives the smallest.
template <typename I, typename T> static inline I whole(T x) {
    const T edge = T(sizeof(I) == 8 ? 9223372036854775808.0 : 2147483648.0);
    return x >= -edge && x < edge ? I(x) : std::numeric_limits<I>::lowest();
}

template <typename T> static inline T lowest() {
    return std::is_floating_point<T>::value ? T(-INFINITY) : std::numeric_limits<T>::lowest();
}
template <typename T> static inline T highest() {
    return std::is_floating_point<T>::value ? T(INFINITY) : std::numeric_limits<T>::max();
}
template <typename T> static inline T sign_of(T x) { return T((x > 0) - (x < 0)); }
template <typename T> static inline T absolute(T x) { return x < 0 ? T(-x) : x; }
template <typename T> static inline T larger(T a, T b) { return a != a ? a : (a > b ? a : b); }
template <typename T> static inline T smaller(T a, T b) { return a != a ? a : (a < b ? a : b); }

template <typename T> static inline T modulo(T a, T b) {
    const T rest = T(std::fmod(a, b));
    return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
template <typename T> static inline T floor_quotient(T a, T b) {
    if (b == 0) return a / b;
    const T rest = std::fmod(a, b);
    T whole = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0)) whole -= 1;
    if (whole == 0) return std::copysign(T(0), a / b);
    const T found = std::floor(whole);
    return whole - found > T(0.5) ? found + 1 : found;
}
template <typename T> static inline T whole_quotient(T a, T b) {
    if (b == 0) { divided_by_zero = 1; return 0; }
    return std::is_signed<T>::value && b == T(-1) ? T(-a) : T(a / b);
}
template <typename T> static inline T whole_rest(T a, T b) {
    if (b == 0) { divided_by_zero = 1; return 0; }
    return std::is_signed<T>::value && b == T(-1) ? T(0) : T(a % b);
}
template <typename T> static inline T whole_modulo(T a, T b) {
    const T rest = whole_rest(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? T(rest + b) : rest;
}
template <typename T> static inline T whole_floor(T a, T b) {
    const T rest = whole_rest(a, b);
    const T found = whole_quotient(a, b);
    return rest != 0 && (rest < 0) != (b < 0) ? T(found - 1) : found;
}
template <typename T> static inline T whole_power(T a, T b) {
    if (b < 0) return a == 1 ? T(1) : std::is_signed<T>::value && a == T(-1) ? T(b % 2 ? -1 : 1) : T(0);
    T found = 1;
    for (; b > 0; b = T(b / 2), a = T(a * a)) if (b % 2) found = T(found * a);
    return found;
}

template <typename T> static inline T softplus(T x, T beta, T bound) {
    return x * beta > bound ? x : std::log1p(std::exp(x * beta)) / beta;
}
template <typename T> static inline T softplus_slope(T g, T x, T beta, T bound) {
    const T e = std::exp(x * beta);
    return x * beta > bound ? g : g * e / (e + 1);
}
template <typename T> static T digamma(T given) {
    if (!(given > 0) && given == std::floor(given)) return given == 0 ? std::copysign(T(INFINITY), -given) : T(NAN);
    const double pi = 3.14159265358979323846;
    double x = given, found = 0;
    if (x < 0) {  // by reflection
        found = -pi / std::tan(pi * x);
        x = 1 - x;
    }
    for (; x < 10; x += 1) found -= 1 / x;
    const double y = 1 / (x * x);  // the asymptotic series
    const double series = 1. / 12 - y * (1. / 120 - y * (1. / 252 - y * (1. / 240 - y * (1. / 132 - y * 691. / 32760))));
    return T(found + std::log(x) - 1 / (2 * x) - y * series);
}
template <typename T> static T erfcx(T given) {
    const double x = given;
    if (x < 10) return T(std::exp(x * x) * std::erfc(x));
    double term = 1, found = 1;  // the asymptotic series, whose 12th term is below rounding from here on
    for (int k = 1; k <= 12; k++) found += term *= -(2 * k - 1) / (2 * x * x);
    return T(found / (x * 1.7724538509055160273));
}
