// Influenza among 763 boys, one of them infectious at time 0; counts with overdispersion.
functions {
  vector field(real t, vector y, real beta, real gamma) {
    real infections = beta * y[1] * y[2] / 763;
    real recoveries = gamma * y[2];
    return [-infections, infections - recoveries, recoveries]';
  }
}
data {
  int<lower=1> N;
  array[N] real ts;
  array[N] int<lower=0> in_bed;
}
parameters {
  real<lower=0> beta;
  real<lower=0> gamma;
  real<lower=0> phi_inv;
}
model {
  array[N] vector[3] y = ode_rk45_tol(field, [762, 1, 0]', 0, ts, 1e-6, 1e-8, 100000,
                                      beta, gamma);

  beta ~ normal(2, 1);
  gamma ~ normal(0.4, 0.5);
  phi_inv ~ exponential(5);
  in_bed ~ neg_binomial_2(fmax(to_vector(y[ : , 2]), 1e-10), 1 / phi_inv);
}
