#include <cmath>
#include <cstdint>
#include <cstring>

extern "C" int64_t density_run(char* const* b) {{
    try {{
{calls}
    }} catch (...) {{
        *(int64_t*)b[{failed}] = 1;  // a kernel threw, as it does for an index out of bounds
        return -1;
    }}
    return 0;
}}

// What nutpie calls: 0 for a finite density, above 0 where a trajectory diverges, below 0 for a wrong call.
extern "C" int64_t density_logp(uint64_t dim, const double* x, double* gradient, double* value, void* buffers) {{
    if (dim != {dim}) return -2;
    char* const* b = (char* const*)buffers;
    {scalar}* z = ({scalar}*)b[0];
    for (int64_t i = 0; i < {dim}; i++) z[i] = ({scalar})x[i];
    if (density_run(b) != 0) return 4;
    const {scalar}* g = (const {scalar}*)({gradient});
    const {scalar} v = *(const {scalar}*)({value});
    bool finite = std::isfinite(v);
    for (int64_t i = 0; i < {dim}; i++) {{
        gradient[i] = g[i];
        finite = finite && std::isfinite(g[i]);
    }}
    *value = v;
    return finite ? 0 : 3;
}}

// Many rows, one after the other.
extern "C" int64_t density_rows(int64_t rows, const {scalar}* z, {scalar}* values, {scalar}* gradients, char* const* b) {{
    for (int64_t row = 0; row < rows; row++) {{
        std::memcpy(b[0], z + row * {dim}, sizeof({scalar}) * {dim});
        if (density_run(b) != 0) return -1;
        values[row] = *(const {scalar}*)({value});
        std::memcpy(gradients + row * {dim}, {gradient}, sizeof({scalar}) * {dim});
    }}
    return 0;
}}

extern "C" int64_t density_copy(uint64_t dim, uint64_t expanded, const double* x, double* out, void* buffers) {{
    if (dim != {dim} || expanded != {dim}) return -2;
    std::memcpy(out, x, dim * sizeof(double));
    return 0;
}}

// As density_logp, in coordinates w. The data are: buffers of the density; starts of rows, columns and values of the sparse
// factor; the number of directions, the directions and their stretches; room for two vectors.
static void density_directions(int64_t dim, double* x, const int64_t* rank, const double* directions, const double* stretches) {{
    for (int64_t r = 0; r < *rank; r++) {{
        const double* u = directions + r * dim;
        double along = 0;
        for (int64_t i = 0; i < dim; i++) along += u[i] * x[i];
        along *= stretches[r];
        for (int64_t i = 0; i < dim; i++) x[i] += along * u[i];
    }}
}}

extern "C" int64_t density_whitened(uint64_t dim, const double* w, double* gradient, double* value, void* data) {{
    void* const* d = (void* const*)data;
    const int64_t* starts = (const int64_t*)d[1];
    const int64_t* columns = (const int64_t*)d[2];
    const double* values = (const double*)d[3];
    const int64_t* rank = (const int64_t*)d[4];
    const double* directions = (const double*)d[5];
    const double* stretches = (const double*)d[6];
    double* along = (double*)d[7];
    double* z = along + dim;
    std::memcpy(along, w, dim * sizeof(double));
    density_directions((int64_t)dim, along, rank, directions, stretches);
    for (uint64_t i = 0; i < dim; i++) {{
        double sum = 0;
        for (int64_t k = starts[i]; k < starts[i + 1]; k++) sum += values[k] * along[columns[k]];
        z[i] = sum;
    }}
    const int64_t wrong = density_logp(dim, z, gradient, value, d[0]);
    if (wrong != 0) return wrong;
    std::memset(along, 0, dim * sizeof(double));
    for (uint64_t i = 0; i < dim; i++)
        for (int64_t k = starts[i]; k < starts[i + 1]; k++) along[columns[k]] += values[k] * gradient[i];
    density_directions((int64_t)dim, along, rank, directions, stretches);
    std::memcpy(gradient, along, dim * sizeof(double));
    return 0;
}}
