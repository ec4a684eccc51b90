-- The restored cluster refuses new connections of the application until somebody has looked.
alter role shop_app connection limit 0;
