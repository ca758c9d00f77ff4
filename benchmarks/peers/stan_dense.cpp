// Stan's optimiser and its sampler with a dense metric, which PyStan does not offer: a small main
// that calls them with CmdStan's default settings. It is linked to a model that stanc translated.
//
//   model optimize DATA OUT SEED NUM_RUNS
//   model sample DATA OUT SEED CHAIN NUM_WARMUP NUM_SAMPLES INIT
//
// `optimize` climbs from random points, in unconstrained space with the Jacobian, and writes the end
// of each run; `sample` writes the draws of one chain that starts at INIT. Files are CSV and JSON.
#include <fstream>
#include <iostream>
#include <string>

#include <stan/callbacks/interrupt.hpp>
#include <stan/callbacks/stream_logger.hpp>
#include <stan/callbacks/stream_writer.hpp>
#include <stan/io/empty_var_context.hpp>
#include <stan/io/json/json_data.hpp>
#include <stan/model/model_base.hpp>
#include <stan/services/optimize/lbfgs.hpp>
#include <stan/services/sample/hmc_nuts_dense_e_adapt.hpp>

stan::model::model_base& new_model(stan::io::var_context& data, unsigned int seed,
                                   std::ostream* messages);

namespace {

stan::json::json_data read(const std::string& path) {
  std::ifstream file(path);
  return stan::json::json_data(file);
}

int optimize(stan::model::model_base& model, int seed, int num_runs, std::ostream& out) {
  stan::callbacks::interrupt interrupt;
  stan::callbacks::stream_logger logger(std::cerr, std::cerr, std::cerr, std::cerr, std::cerr);
  stan::callbacks::writer none;
  stan::callbacks::stream_writer writer(out, "# ");
  stan::io::empty_var_context random;
  for (int run = 1; run <= num_runs; ++run)
    stan::services::optimize::lbfgs<stan::model::model_base, true>(
        model, random, seed, run, 2, 5, 0.001, 1e-12, 1e4, 1e-8, 1e7, 1e-8, 2000, false, 0,
        interrupt, logger, none, writer);
  return 0;
}

int sample(stan::model::model_base& model, int seed, char** argv, std::ostream& out) {
  stan::callbacks::interrupt interrupt;
  stan::callbacks::stream_logger logger(std::cerr, std::cerr, std::cerr, std::cerr, std::cerr);
  stan::callbacks::writer none;
  stan::callbacks::stream_writer writer(out, "# ");
  stan::json::json_data init = read(argv[8]);
  return stan::services::sample::hmc_nuts_dense_e_adapt(
      model, init, seed, std::stoi(argv[5]), 2, std::stoi(argv[6]), std::stoi(argv[7]), 1, false, 0,
      1, 0, 10, 0.8, 0.05, 0.75, 10, 75, 50, 25, interrupt, logger, none, writer, none);
}

}  // namespace

int main(int, char** argv) {
  const std::string mode = argv[1];
  const int seed = std::stoi(argv[4]);
  stan::json::json_data data = read(argv[2]);
  stan::model::model_base& model = new_model(data, seed, &std::cerr);
  std::ofstream out(argv[3]);
  out.precision(12);
  return mode == "optimize" ? optimize(model, seed, std::stoi(argv[5]), out)
                            : sample(model, seed, argv, out);
}
