// Three kinases with feedback, and a product of the last; log-normal noise.
functions {
  vector field(real t, vector y, real fading, real on_1, real off_1, real feedback,
               real on_2, real off_2, real on_3, real off_3, real synthesis, real loss) {
    real stimulus = exp(-fading * t) / (1 + feedback * y[3]);
    return [on_1 * stimulus * (1 - y[1]) - off_1 * y[1],
            on_2 * y[1] * (1 - y[2]) - off_2 * y[2],
            on_3 * y[2] * (1 - y[3]) - off_3 * y[3],
            synthesis * y[3] - loss * y[4]]';
  }
}
data {
  int<lower=1> N;
  array[N] real ts;
  vector<lower=0>[N] blot_1;
  vector<lower=0>[N] blot_2;
  vector<lower=0>[N] blot_3;
  vector<lower=0>[N] product_level;
}
parameters {
  real<lower=0> fading;
  real<lower=0> on_1;
  real<lower=0> off_1;
  real<lower=0> feedback;
  real<lower=0> on_2;
  real<lower=0> off_2;
  real<lower=0> on_3;
  real<lower=0> off_3;
  real<lower=0> synthesis;
  real<lower=0> loss;
  real<lower=0> scale_1;
  real<lower=0> scale_2;
  real<lower=0> scale_3;
  real<lower=0> sigma_1;
  real<lower=0> sigma_2;
  real<lower=0> sigma_3;
  real<lower=0> sigma_product;
}
model {
  array[N] vector[4] y = ode_rk45_tol(field, rep_vector(0, 4), 0, ts, 1e-6, 1e-8, 100000,
                                      fading, on_1, off_1, feedback, on_2, off_2,
                                      on_3, off_3, synthesis, loss);

  fading ~ lognormal(-2, 0.3);
  on_1 ~ lognormal(0, 0.3);
  on_2 ~ lognormal(0, 0.3);
  on_3 ~ lognormal(0, 0.3);
  off_1 ~ lognormal(-1, 0.3);
  off_2 ~ lognormal(-1, 0.3);
  off_3 ~ lognormal(-1, 0.3);
  feedback ~ lognormal(1, 0.3);
  synthesis ~ lognormal(0.5, 0.3);
  loss ~ lognormal(-1.5, 0.3);
  scale_1 ~ lognormal(0, 0.1);
  scale_2 ~ lognormal(0, 0.1);
  scale_3 ~ lognormal(0, 0.1);
  sigma_1 ~ lognormal(-2, 0.5);
  sigma_2 ~ lognormal(-2, 0.5);
  sigma_3 ~ lognormal(-2, 0.5);
  sigma_product ~ lognormal(-2, 0.5);
  blot_1 ~ lognormal(log(scale_1 * to_vector(y[ : , 1])), sigma_1);
  blot_2 ~ lognormal(log(scale_2 * to_vector(y[ : , 2])), sigma_2);
  blot_3 ~ lognormal(log(scale_3 * to_vector(y[ : , 3])), sigma_3);
  product_level ~ lognormal(log(to_vector(y[ : , 4])), sigma_product);
}
