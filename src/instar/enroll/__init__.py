"""A gallery that grows: individuals that become known without training anew."""
