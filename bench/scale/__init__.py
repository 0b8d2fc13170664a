"""What Tasker costs on PostgreSQL, and what gives out first as it grows: measured parts, a model and simulations."""
