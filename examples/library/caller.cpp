// Trains the library's classifier from C++17, by its gradient:
//   python -m stager build model.toml -o out
//   c++ -std=c++17 -Iout caller.cpp -o caller -Lout -lmodel -Wl,-rpath,"$PWD/out" && ./caller
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.h"

namespace {

using Array = std::vector<double>;

struct Params {
    Array w1 = Array(4 * 8), b1 = Array(8), w2 = Array(8 * 3), b2 = Array(3);
};

// The loss at p and its gradient; throws what the library says.
double loss_and_gradient(const Params &p, const Array &x, const std::vector<std::int64_t> &labels, Params &gradient) {
    double value = 0;
    stager_call call = {};
    std::int32_t code = loss_value_and_grad(
        p.w1.data(), p.b1.data(), p.w2.data(), p.b2.data(), x.data(), labels.data(), &value, gradient.w1.data(),
        gradient.b1.data(), gradient.w2.data(), gradient.b2.data(), static_cast<std::int64_t>(labels.size()), &call);
    if (code != STAGER_OK) {
        std::string text(200, '\0');
        text.resize(static_cast<std::size_t>(loss_value_and_grad_error(code, &call, text.data(), 200)));
        throw std::runtime_error(text);
    }
    return value;
}

void step(Array &p, const Array &gradient) {
    for (std::size_t i = 0; i < p.size(); i++) p[i] -= 0.5 * gradient[i];
}

}  // namespace

int main() {
    // three classes of points, by the angle of their first two coordinates
    Array x;
    std::vector<std::int64_t> labels;
    for (int i = 0; i < 90; i++) {
        double angle = 0.07 * i;
        for (double v : {std::cos(angle), std::sin(angle), 1.0, 0.1 * (i % 3)}) x.push_back(v);
        labels.push_back(i / 30);
    }
    Params p, gradient;
    for (std::size_t i = 0; i < p.w1.size(); i++) p.w1[i] = std::sin(3.0 * static_cast<double>(i));
    for (std::size_t i = 0; i < p.w2.size(); i++) p.w2[i] = std::cos(5.0 * static_cast<double>(i));
    double first = 0, last = 0;
    for (int k = 0; k < 400; k++) {
        last = loss_and_gradient(p, x, labels, gradient);
        if (k == 0) first = last;
        step(p.w1, gradient.w1), step(p.b1, gradient.b1), step(p.w2, gradient.w2), step(p.b2, gradient.b2);
    }
    std::printf("%.6f %.6f\n", first, last);
    try {
        labels[7] = 3;
        loss_and_gradient(p, x, labels, gradient);
    } catch (const std::runtime_error &error) {
        std::printf("%s\n", error.what());
    }
    return last < 0.1 * first ? 0 : 1;
}
